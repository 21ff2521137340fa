"""What the API document says of the paths for webhooks."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers

from apps.sources.states import ProviderName
from controlplane.http.openapi import WEBHOOK as SIGNED
from controlplane.http.openapi import problems

_PROVIDER = OpenApiParameter(
    "provider", {"type": "string", "enum": [name.value for name in ProviderName]}, OpenApiParameter.PATH
)
_CONNECTION = OpenApiParameter("connection_id", {"type": "string", "maxLength": 63}, OpenApiParameter.PATH)
_TAKEN = inline_serializer("WebhookTaken", {"event_id": serializers.CharField()})

_SHARED: dict[str, Any] = {
    "request": {"application/json": {"type": "object", "description": "What the provider sends, as it documents it."}},
    "responses": {202: _TAKEN, **problems(403)},
    "security": SIGNED,
    "tags": ["webhooks"],
}

WEBHOOK: dict[str, Any] = {"operation_id": "webhooks_take", "parameters": [_PROVIDER], **_SHARED}
CONNECTION_WEBHOOK: dict[str, Any] = {
    "operation_id": "webhooks_take_for_connection",
    "parameters": [_PROVIDER, _CONNECTION],
    **_SHARED,
}
