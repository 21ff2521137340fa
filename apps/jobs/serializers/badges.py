"""The parameters of requests for badges."""

from typing import Any

from rest_framework import serializers

from controlplane.http.drf_fields import TextField


class BadgeQuerySerializer(serializers.Serializer[Any]):
    """The query parameters of ``GET /badges/{pipeline}.svg``."""

    branch = TextField(required=False, max_length=255, help_text="Left out: the pipeline's default ref.")
