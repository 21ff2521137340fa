"""A pipeline's pause as JSON."""

from typing import Any

from rest_framework import serializers


class PauseSerializer(serializers.Serializer[Any]):
    """Whether a pipeline is paused."""

    name = serializers.CharField()
    paused_at = serializers.DateTimeField(allow_null=True, help_text="Null if it is not paused.")
    paused_by = serializers.CharField(allow_null=True, help_text="The user who paused it.")
