"""``/auth/device-authorization`` and ``/auth/device-token``: a program gets a token that a user allows in a browser."""

from urllib.parse import urlencode

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.sessions import PublicView
from apps.accounts.serializers.device_authorizations import (
    DeviceAuthorizationCreateSerializer,
    DeviceAuthorizationSerializer,
    DeviceTokenRequestSerializer,
    DeviceTokenSerializer,
)
from apps.accounts.services.device_authorizations import (
    POLL_SECONDS,
    device_authorization_create,
    device_authorization_redeem,
)
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, client_address


class DeviceAuthorizationView(PublicView):
    @extend_schema(
        request=DeviceAuthorizationCreateSerializer,
        responses={201: DeviceAuthorizationSerializer, **problems(409, 429)},
        operation_id="device_authorizations_create",
        tags=["auth"],
    )
    def post(self, request: Request) -> Response:
        """Begin to log a program in, as in RFC 8628: show the user `user_code` and `verification_uri`, and ask
        ``POST /auth/device-token`` every `interval` seconds until the user has decided."""
        members = body_validated(request.data, DeviceAuthorizationCreateSerializer)
        started = device_authorization_create(name=members["name"], address=client_address(request))
        page = request.build_absolute_uri(reverse("device"))
        answer = {
            "device_code": started.device_code,
            "user_code": started.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?{urlencode({'code': started.user_code})}",
            "expires_in": started.expires_in,
            "interval": POLL_SECONDS,
        }
        return Response(DeviceAuthorizationSerializer(answer).data, status=201)


class DeviceTokenView(PublicView):
    @extend_schema(
        request=DeviceTokenRequestSerializer,
        responses={200: DeviceTokenSerializer, **problems(404, 409)},
        operation_id="device_tokens_create",
        tags=["auth"],
    )
    def post(self, request: Request) -> Response:
        """Get the API token that the user has allowed. It works once. Until the user has decided, the answer is 409
        with the code `authorization_pending`; after a denial 409 with `access_denied`."""
        members = body_validated(request.data, DeviceTokenRequestSerializer)
        token, text = device_authorization_redeem(device_code=members["device_code"])
        answer = {
            "access_token": text,
            "token_type": "Bearer",
            "token_id": token.token_id,
            "expires_at": token.expires_at,
        }
        return Response(DeviceTokenSerializer(answer).data)
