"""Who sends a request, as JSON."""

from typing import Any

from rest_framework import serializers


class CallerSerializer(serializers.Serializer[Any]):
    """The user or API token whose credentials a request has."""

    kind = serializers.CharField(help_text="user or token")
    id = serializers.CharField(help_text="Of the user, or of the token.")
    name = serializers.CharField()
    user_id = serializers.CharField(help_text="Of the user, or of the token's user.")
    permissions = serializers.ListField(child=serializers.CharField(), help_text="As they are now.")
