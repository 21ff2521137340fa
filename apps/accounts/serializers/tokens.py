"""API tokens as JSON."""

from typing import Any

from rest_framework import serializers

from apps.accounts.policies import Permission
from apps.accounts.services.api_tokens import MAX_NAME
from controlplane.http.drf_fields import ChoiceField, ListField, TextField
from controlplane.lib.ids import ID_PATTERN


class TokenListQuerySerializer(serializers.Serializer[Any]):
    """Whose tokens ``GET /tokens`` lists."""

    user_id = serializers.RegexField(
        rf"\A{ID_PATTERN}\Z",
        required=False,
        help_text="Another user's, which needs the permission accounts.manage; without it one's own.",
    )


class TokenCreateSerializer(serializers.Serializer[Any]):
    """What ``POST /tokens`` takes."""

    name = TextField(max_length=MAX_NAME, help_text="What the token is for.")
    permissions = ListField(
        child=ChoiceField([permission.value for permission in Permission]),
        required=False,
        allow_null=True,
        max_length=len(Permission),
        help_text="Some of its owner's permissions. Null, or left out: whatever the role allows when it is used.",
    )
    expires_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        help_text="From then on the token is refused. Null, or left out: it does not expire.",
    )
    user_id = serializers.RegexField(
        rf"\A{ID_PATTERN}\Z",
        required=False,
        help_text="The owner; another user needs the permission accounts.manage. Without it the caller.",
    )


class TokenSerializer(serializers.Serializer[Any]):
    """A token, without its text."""

    token_id = serializers.CharField()
    user_id = serializers.CharField(help_text="Its owner.")
    name = serializers.CharField()
    permissions = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="Null: whatever the owner's role allows."
    )
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the hour.")


class TokenCreatedSerializer(TokenSerializer):
    """A new token with its text, which only this response contains."""

    token = serializers.CharField(help_text="Begins with hcp_. Store it now: it cannot be shown again.")


class TokenPageSerializer(serializers.Serializer[Any]):
    """A user's tokens, newest first, with expired ones until others replace them. One response holds them all."""

    tokens = TokenSerializer(many=True)
    total = serializers.IntegerField()
    next_cursor = serializers.CharField(allow_null=True, help_text="Always null.")


def token_json(token: Any) -> dict[str, Any]:
    """The members of `TokenSerializer`."""
    return dict(TokenSerializer(token).data)
