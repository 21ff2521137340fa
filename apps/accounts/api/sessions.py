"""Sessions of the frontend, and the devices on which a user is signed in."""

import re
from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import session_actor
from apps.accounts.devices import device_name
from apps.accounts.identities import providers_configured
from apps.accounts.selectors import session_list, session_view
from apps.accounts.serializers.sessions import (
    DeviceListQuerySerializer,
    DeviceListSerializer,
    LoggedOutSerializer,
    OwnSessionSerializer,
    SessionCreateSerializer,
    SessionLogoutSerializer,
    SessionSerializer,
)
from apps.accounts.services import (
    device_remove,
    identity_sign_in,
    provider_attempt_reserve,
    provider_sign_in_failed,
    session_logout,
    session_start,
    sessions_end,
)
from controlplane.http.openapi import PUBLIC, problems
from controlplane.http.requests import body_validated, client_address, client_region, query_validated
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput, NotFound

# What fits into a header, without line breaks.
_PROVIDER_TOKEN = re.compile(r"[!-~]{1,4096}")


class PublicView(APIView):
    """The body of the request proves who the caller is: the header Authorization and cookies are ignored."""

    authentication_classes = ()
    permission_classes = ()
    security = PUBLIC


class SessionView(APIView):
    def get_authenticators(self) -> list[Any]:
        return [] if self._is_public else super().get_authenticators()

    def get_permissions(self) -> list[Any]:
        return [] if self._is_public else list(super().get_permissions())

    @property
    def _is_public(self) -> bool:
        """As in `PublicView`: the body of a POST proves who the caller is."""
        return getattr(self.request, "method", None) == "POST"

    @extend_schema(responses=OwnSessionSerializer, operation_id="sessions_get")
    def get(self, request: Request) -> Response:
        """The session that this request uses, with the user's name, e-mail address and picture."""
        _, token_hash = session_actor(request)
        session = session_view(token_hash)
        if session is None:
            raise NotFound("This session has ended.", code=ErrorCode.SESSION_NOT_FOUND)
        members = {
            **vars(session),
            "user_id": session.subject or session.user_id,
            "user_info": session.user_info or None,
        }
        return Response(OwnSessionSerializer(members).data)

    @extend_schema(
        request=SessionCreateSerializer,
        responses={200: SessionSerializer, **problems(401, 403, 409, 429, 502, 503)},
        operation_id="sessions_create",
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Create a session for a user who has signed in at a provider. The provider is asked whose access token it is,
        and whether it issued the token to this application. The same users may sign in as on the sign-in page."""
        from apps.accounts.oauth.flow import token_identity

        members = body_validated(request.data, SessionCreateSerializer)
        provider, subject = members["provider"], members["user_id"]
        access_token = members["oauth_tokens"].get("access_token")
        if provider not in providers_configured():
            raise InvalidInput.field(
                "provider", "must be a provider that is configured here", code=ErrorCode.PROVIDER_UNKNOWN
            )
        if not isinstance(access_token, str) or not _PROVIDER_TOKEN.fullmatch(access_token):
            raise InvalidInput.field("oauth_tokens.access_token", "must be an access token of the provider")
        address = client_address(request)
        attempt = provider_attempt_reserve(address=address)
        identity = None
        try:
            identity = token_identity(request._request, provider, access_token)
            if identity.subject != subject:
                raise Forbidden(
                    "The provider says that this access token is of another user.", code=ErrorCode.USER_MISMATCH
                )
            started = session_start(
                user=identity_sign_in(identity),
                provider=provider,
                device=device_name(request.headers.get("User-Agent", "")),
                address=address,
                region=client_region(request),
                subject=subject,
                identity=identity,
            )
        except ApplicationError as error:
            if error.status >= 500:
                attempt.give_back()
            else:
                provider_sign_in_failed(
                    error=error, provider=provider, address=address, identity=identity, claimed=subject
                )
            raise
        attempt.give_back()
        answer = {
            "session_id": started.token,
            "user_id": subject,
            "provider": provider,
            "created_at": started.session.created_at,
            "expires_at": started.session.expires_at,
        }
        return Response(SessionSerializer(answer).data)


class SessionLogoutView(PublicView):
    @extend_schema(
        request=SessionLogoutSerializer,
        parameters=[OpenApiParameter("session_id", str, description="The session to end, if it is not in the body.")],
        responses=LoggedOutSerializer,
        operation_id="sessions_logout",
    )
    def post(self, request: Request) -> Response:
        """End a session. The response is the same if it has ended before, or never was."""
        query, body = request.query_params, request.data
        if query and body:
            raise InvalidInput("Send the session_id in the query or in the body, not in both.")
        asked = (
            query_validated(query, SessionLogoutSerializer) if query else body_validated(body, SessionLogoutSerializer)
        )
        session_logout(asked["session_id"])
        return Response({"status": "logged out"})


class LogoutEverywhereView(APIView):
    @extend_schema(request=None, responses=LoggedOutSerializer, operation_id="sessions_logout_everywhere")
    def post(self, request: Request) -> Response:
        """End all my sessions at once, this one too. API tokens stay valid."""
        actor, _ = session_actor(request)
        sessions_end(actor=actor, user_id=actor.id)
        return Response({"status": "logged out"})


class DevicesView(APIView):
    @extend_schema(parameters=[DeviceListQuerySerializer], responses=DeviceListSerializer, operation_id="devices_list")
    def get(self, request: Request) -> Response:
        """The devices on which I am signed in. A session that was made a moment ago may be missing."""
        actor, current = session_actor(request)
        page = session_list(actor.id, **query_validated(request.query_params, DeviceListQuerySerializer))
        devices = [{**asdict(session), "current": session.token_hash == current} for session in page.sessions]
        return Response(DeviceListSerializer({**vars(page), "devices": devices}).data)


class DeviceView(APIView):
    @extend_schema(responses={204: None}, operation_id="devices_remove")
    def delete(self, request: Request, device_id: str) -> Response:
        """Sign me out on this device, at once."""
        actor, _ = session_actor(request)
        device_remove(actor=actor, device_id=device_id)
        return Response(status=204)
