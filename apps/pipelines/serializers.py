"""Pipelines as JSON. What makes a name, an address, a ref or a definition valid is the services' business."""

from typing import Any

from rest_framework import serializers

from controlplane.http.requests import TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH


class PipelineSaveSerializer(serializers.Serializer[Any]):
    """What ``PUT /pipelines/{name}`` takes: all of the pipeline."""

    repository = TextField(
        help_text="An https, http, ssh, git or file URL, user@host:path, or an absolute path on the agents' machines.",
    )
    default_ref = TextField(default="main", help_text="Branch, tag or commit of jobs that name none.")
    definition = TextField(
        default=None,
        allow_null=True,
        allow_blank=True,
        help_text="YAML; null: the file .hybrid-ci.yml of the repository.",
    )


class PipelineListQuerySerializer(serializers.Serializer[Any]):
    """Which part of the list is asked for."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=50)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class PipelineSerializer(serializers.Serializer[Any]):
    """A pipeline. Times are RFC 3339 in UTC."""

    name = serializers.CharField()
    repository = serializers.CharField()
    default_ref = serializers.CharField()
    definition = serializers.CharField(
        allow_null=True, help_text="YAML; null: the file .hybrid-ci.yml of the repository."
    )
    labels = serializers.ListField(
        child=serializers.CharField(), help_text="What its jobs ask of an agent, as far as it is known."
    )
    revision = serializers.IntegerField(help_text="How often it was saved.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PipelinePageSerializer(serializers.Serializer[Any]):
    """A page of pipelines by name."""

    pipelines = PipelineSerializer(many=True)
    total = serializers.IntegerField()
    next_cursor = serializers.CharField(allow_null=True)
