"""Device authorizations as JSON, with the member names of RFC 8628."""

from typing import Any

from rest_framework import serializers

from apps.accounts.services.api_tokens import MAX_NAME
from controlplane.http.drf_fields import TextField


class DeviceAuthorizationCreateSerializer(serializers.Serializer[Any]):
    """What ``POST /auth/device-authorization`` takes."""

    name = TextField(max_length=MAX_NAME, help_text="What the program calls itself, such as “hci on laptop”.")


class DeviceAuthorizationSerializer(serializers.Serializer[Any]):
    """The codes of a program that asks for an API token."""

    device_code = serializers.CharField(help_text="For the program alone. Only this response contains it.")
    user_code = serializers.CharField(help_text="For the user to type.")
    verification_uri = serializers.CharField(help_text="The page that asks for the user's code.")
    verification_uri_complete = serializers.CharField(help_text="The same page with the code filled in.")
    expires_in = serializers.IntegerField(help_text="Seconds until both codes expire.")
    interval = serializers.IntegerField(help_text="Seconds between two questions for the token.")


class DeviceTokenRequestSerializer(serializers.Serializer[Any]):
    """What ``POST /auth/device-token`` takes."""

    device_code = TextField(max_length=200)


class DeviceTokenSerializer(serializers.Serializer[Any]):
    """The API token that the user has allowed."""

    access_token = serializers.CharField(help_text="Begins with hcp_. Store it now: it cannot be shown again.")
    token_type = serializers.CharField(help_text="Always Bearer.")
    token_id = serializers.CharField()
    expires_at = serializers.DateTimeField()
