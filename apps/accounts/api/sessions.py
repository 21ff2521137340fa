"""Sessions of the frontend, and the devices on which one is signed in."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import session_actor
from apps.accounts.selectors import session_list
from apps.accounts.serializers.sessions import (
    DeviceListSerializer,
    LoggedOutSerializer,
    SessionLogoutQuerySerializer,
    SessionValidateSerializer,
    SessionValiditySerializer,
)
from apps.accounts.services import device_remove, session_logout, session_verify, sessions_end
from controlplane.lib.errors import NotAuthenticated
from controlplane.openapi import PUBLIC
from controlplane.requests import body_validated, query_validated


class PublicView(APIView):
    """What the caller shows is in the request itself: neither a token nor a cookie is looked at."""

    authentication_classes = ()
    permission_classes = ()
    security = PUBLIC


class SessionValidateView(PublicView):
    @extend_schema(
        request=SessionValidateSerializer, responses=SessionValiditySerializer, operation_id="sessions_validate"
    )
    def post(self, request: Request) -> Response:
        """Whether a session holds, and whose it is. To ask is not to use: it does not keep the session from ending."""
        token = body_validated(request.data, SessionValidateSerializer)["session_id"]
        answer: dict[str, Any] = {"valid": False, "user_id": None, "provider": None, "expires_at": None}
        try:
            session = session_verify(token, use=False)
        except NotAuthenticated:
            return Response(answer)
        answer = {
            "valid": True,
            "user_id": session.subject or session.user.user_id,
            "provider": session.provider,
            "expires_at": session.expires_at,
        }
        return Response(SessionValiditySerializer(answer).data)


class SessionLogoutView(PublicView):
    @extend_schema(
        request=None,
        parameters=[SessionLogoutQuerySerializer],
        responses=LoggedOutSerializer,
        operation_id="sessions_logout",
    )
    def post(self, request: Request) -> Response:
        """End a session. One that is over, or never was, is answered alike."""
        session_logout(query_validated(request.query_params, SessionLogoutQuerySerializer)["session_id"])
        return Response({"status": "logged out"})


class LogoutEverywhereView(APIView):
    @extend_schema(request=None, responses=LoggedOutSerializer, operation_id="sessions_logout_everywhere")
    def post(self, request: Request) -> Response:
        """End all my sessions, this one too, at once and everywhere. API tokens stay."""
        actor, _ = session_actor(request)
        sessions_end(actor=actor, user_id=actor.id)
        return Response({"status": "logged out"})


class DevicesView(APIView):
    @extend_schema(responses=DeviceListSerializer, operation_id="devices_list")
    def get(self, request: Request) -> Response:
        """Where I am signed in. A session made a moment ago may be missing."""
        actor, current = session_actor(request)
        devices = [{**asdict(session), "current": session.session_id == current} for session in session_list(actor.id)]
        return Response(DeviceListSerializer({"devices": devices, "total": len(devices), "next_cursor": None}).data)


class DeviceView(APIView):
    @extend_schema(responses={204: None}, operation_id="devices_remove")
    def delete(self, request: Request, device_id: str) -> Response:
        """Sign me out there, at once."""
        actor, _ = session_actor(request)
        device_remove(actor=actor, device_id=device_id)
        return Response(status=204)
