"""Sessions and devices as JSON. Times are RFC 3339 in UTC."""

from typing import Any

from rest_framework import serializers

from apps.accounts.identities import PROVIDERS
from apps.accounts.serializers.session_question import MAX_TOKEN
from controlplane.http.requests import TextField


class SessionCreateSerializer(serializers.Serializer[Any]):
    """What the frontend knows after its own OAuth redirect. Of it only `oauth_tokens.access_token` proves anything."""

    user_id = TextField(
        max_length=100, help_text="By what id the provider knows the person: Google's sub, GitHub's id."
    )
    provider = serializers.ChoiceField(choices=tuple(PROVIDERS))
    oauth_tokens = serializers.DictField(
        child=serializers.JSONField(allow_null=True),
        help_text="The provider's answer to the code; `access_token` is shown to the provider and then dropped.",
    )
    user_info = serializers.DictField(
        child=serializers.JSONField(allow_null=True),
        required=False,
        help_text="Taken and not believed: name and address are what the provider itself says.",
    )


class SessionSerializer(serializers.Serializer[Any]):
    """A session just made. `session_id` is the bearer token for all endpoints, and can't be shown again."""

    session_id = serializers.CharField()
    user_id = serializers.CharField(help_text="As in the request.")
    provider = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="When it ends unless it is used; use moves it, up to a limit.")


class SessionValidateSerializer(serializers.Serializer[Any]):
    """The session that is asked about."""

    session_id = TextField(max_length=MAX_TOKEN)


class SessionValiditySerializer(serializers.Serializer[Any]):
    """Whether the session holds. Of one that does not, nothing else is told."""

    valid = serializers.BooleanField()
    user_id = serializers.CharField(allow_null=True)
    provider = serializers.CharField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class SessionLogoutQuerySerializer(serializers.Serializer[Any]):
    """The session that is to end."""

    session_id = TextField(max_length=MAX_TOKEN)


class LoggedOutSerializer(serializers.Serializer[Any]):
    """The session is over, whether it was before or not."""

    status = serializers.CharField(help_text="Always “logged out”.")


class DeviceSerializer(serializers.Serializer[Any]):
    """Somewhere I am signed in."""

    id = serializers.CharField(source="device_id", help_text="For DELETE; opens nothing.")
    device = serializers.CharField(allow_null=True, help_text="What it said of itself, such as “Firefox on Linux”.")
    address = serializers.CharField(allow_null=True)
    region = serializers.CharField(allow_null=True, help_text="Null when nobody has told.")
    provider = serializers.CharField(allow_null=True)
    signed_in_at = serializers.DateTimeField(source="created_at")
    last_seen_at = serializers.DateTimeField(help_text="To the minute.")
    expires_at = serializers.DateTimeField()
    current = serializers.BooleanField(help_text="Whether this request came by it.")


class DeviceListSerializer(serializers.Serializer[Any]):
    """All of them, the newest first."""

    devices = DeviceSerializer(many=True)
    total = serializers.IntegerField()
    next_cursor = serializers.CharField(allow_null=True, help_text="Always null: the list is whole.")
