"""Sessions of the frontend, and the devices on which a user is signed in."""

import re
from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import session_actor
from apps.accounts.devices import device_name
from apps.accounts.identities import providers_configured
from apps.accounts.selectors import session_list
from apps.accounts.serializers.sessions import (
    DeviceListSerializer,
    LoggedOutSerializer,
    SessionCreateSerializer,
    SessionLogoutQuerySerializer,
    SessionSerializer,
)
from apps.accounts.services import (
    device_remove,
    identity_sign_in,
    session_logout,
    session_start,
    sessions_end,
    sign_in_failed_record,
    sign_in_rate_limit,
)
from controlplane.http.openapi import PUBLIC, problems
from controlplane.http.requests import body_validated, client_address, client_region, query_validated
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput

# What fits into a header, without line breaks.
_PROVIDER_TOKEN = re.compile(r"[!-~]{1,4096}")


class PublicView(APIView):
    """The body of the request proves who the caller is: the header Authorization and cookies are ignored."""

    authentication_classes = ()
    permission_classes = ()
    security = PUBLIC


class SessionView(PublicView):
    @extend_schema(
        request=SessionCreateSerializer,
        responses={200: SessionSerializer, **problems(401, 403, 409, 429, 502, 503)},
        operation_id="sessions_create",
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
        sign_in_rate_limit(address=address, account=f"{provider}#{subject}")
        identity = token_identity(request._request, provider, access_token)
        try:
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
            )
        except ApplicationError as error:
            sign_in_failed_record(email=identity.email or "", provider=provider, address=address, reason=error.code)
            raise
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
        request=None,
        parameters=[SessionLogoutQuerySerializer],
        responses=LoggedOutSerializer,
        operation_id="sessions_logout",
    )
    def post(self, request: Request) -> Response:
        """End a session. The response is the same if it has ended before, or never was."""
        session_logout(query_validated(request.query_params, SessionLogoutQuerySerializer)["session_id"])
        return Response({"status": "logged out"})


class LogoutEverywhereView(APIView):
    @extend_schema(request=None, responses=LoggedOutSerializer, operation_id="sessions_logout_everywhere")
    def post(self, request: Request) -> Response:
        """End all my sessions at once, this one too. API tokens stay valid."""
        actor, _ = session_actor(request)
        sessions_end(actor=actor, user_id=actor.id)
        return Response({"status": "logged out"})


class DevicesView(APIView):
    @extend_schema(responses=DeviceListSerializer, operation_id="devices_list")
    def get(self, request: Request) -> Response:
        """The devices on which I am signed in. A session that was made a moment ago may be missing."""
        actor, current = session_actor(request)
        devices = [{**asdict(session), "current": session.token_hash == current} for session in session_list(actor.id)]
        return Response(DeviceListSerializer({"devices": devices, "total": len(devices), "next_cursor": None}).data)


class DeviceView(APIView):
    @extend_schema(responses={204: None}, operation_id="devices_remove")
    def delete(self, request: Request, device_id: str) -> Response:
        """Sign me out on this device, at once."""
        actor, _ = session_actor(request)
        device_remove(actor=actor, device_id=device_id)
        return Response(status=204)
