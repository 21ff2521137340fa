"""Sessions and devices as JSON. Times are RFC 3339 in UTC."""

from typing import Any

from rest_framework import serializers

from apps.accounts.identities import PROVIDERS
from apps.accounts.serializers.session_question import MAX_TOKEN
from controlplane.http.drf_fields import ChoiceField, DictField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH

# The most members of what a provider has answered.
_MAX_ENTRIES = 100


class SessionCreateSerializer(serializers.Serializer[Any]):
    """What the frontend has after its own OAuth redirect. Only `oauth_tokens.access_token` proves who the user is."""

    user_id = TextField(max_length=100, help_text="The provider's id for the user: Google's sub, GitHub's id.")
    provider = ChoiceField(tuple(PROVIDERS))
    oauth_tokens = DictField(
        child=serializers.JSONField(allow_null=True),
        max_entries=_MAX_ENTRIES,
        help_text="The provider's response to the code; `access_token` is sent to the provider and not stored.",
    )
    user_info = DictField(
        child=serializers.JSONField(allow_null=True),
        max_entries=_MAX_ENTRIES,
        required=False,
        help_text="Not believed: the session's `user_info` comes from the provider.",
    )


class SessionSerializer(serializers.Serializer[Any]):
    """A new session. `session_id` is the bearer token for all endpoints, and cannot be shown again."""

    session_id = serializers.CharField()
    user_id = serializers.CharField(help_text="As in the request.")
    provider = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(
        help_text="When the session ends if it is not used; use moves this, up to a limit."
    )


class UserInfoSerializer(serializers.Serializer[Any]):
    """The user, as the provider described them at sign-in, or the account where they signed in with a password."""

    email = serializers.CharField()
    name = serializers.CharField()
    picture = serializers.URLField(allow_null=True)


class OwnSessionSerializer(serializers.Serializer[Any]):
    """The session of this request. `user_info` is null if an earlier version of the control plane made the session."""

    user_id = serializers.CharField(help_text="The provider's id for the user where `POST /auth/session` made it.")
    provider = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    user_info = UserInfoSerializer(allow_null=True)


class SessionValidateSerializer(serializers.Serializer[Any]):
    """The session to check."""

    session_id = TextField(max_length=MAX_TOKEN)


class SessionValiditySerializer(serializers.Serializer[Any]):
    """Whether the session is valid. If not, all other members are null."""

    valid = serializers.BooleanField()
    user_id = serializers.CharField(allow_null=True)
    provider = serializers.CharField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class SessionLogoutSerializer(serializers.Serializer[Any]):
    """The session to end, in the query or in a JSON body."""

    session_id = TextField(max_length=MAX_TOKEN)


class LoggedOutSerializer(serializers.Serializer[Any]):
    """The session has ended, now or before."""

    status = serializers.CharField(help_text="Always “logged out”.")


class DeviceListQuerySerializer(serializers.Serializer[Any]):
    """Which part of the list ``GET /auth/devices`` returns."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class DeviceSerializer(serializers.Serializer[Any]):
    """A device on which I am signed in."""

    id = serializers.CharField(source="device_id", help_text="For DELETE; it is no token.")
    device = serializers.CharField(
        allow_null=True, help_text="Browser and system, as the browser names itself, such as “Firefox on Linux”."
    )
    address = serializers.CharField(allow_null=True)
    region = serializers.CharField(allow_null=True, help_text="Null if it is unknown.")
    provider = serializers.CharField(allow_null=True)
    signed_in_at = serializers.DateTimeField(source="created_at")
    last_seen_at = serializers.DateTimeField(help_text="To the minute.")
    expires_at = serializers.DateTimeField()
    current = serializers.BooleanField(help_text="Whether this request used this session.")


class DeviceListSerializer(serializers.Serializer[Any]):
    """A page of devices, newest first."""

    devices = DeviceSerializer(many=True)
    total = serializers.IntegerField()
    total_is_lower_bound = serializers.BooleanField(help_text="Whether there may be more than `total` devices.")
    next_cursor = serializers.CharField(allow_null=True)
