"""Pipelines as JSON. The services check what makes a name, an address, a ref or a definition valid."""

from typing import Any

from rest_framework import serializers

from controlplane.http.drf_fields import TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH


class PipelineSaveSerializer(serializers.Serializer[Any]):
    """The body of ``PUT /pipelines/{name}``: all of the pipeline."""

    repository = TextField(
        help_text="An https, http, ssh, git or file URL, user@host:path, or an absolute path on the agents' machines.",
    )
    default_ref = TextField(default="main", help_text="The branch, tag or commit that a job builds if it names none.")
    definition = TextField(
        default=None,
        allow_null=True,
        allow_blank=True,
        help_text="YAML, or null: then each job uses the .hybrid-ci.yml of the repository.",
    )


class PipelineListQuerySerializer(serializers.Serializer[Any]):
    """Which page of the list to return."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=50)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class PipelineSerializer(serializers.Serializer[Any]):
    """A pipeline. Times are RFC 3339 in UTC."""

    name = serializers.CharField()
    repository = serializers.CharField()
    default_ref = serializers.CharField()
    definition = serializers.CharField(
        allow_null=True, help_text="YAML, or null: then each job uses the .hybrid-ci.yml of the repository."
    )
    labels = serializers.ListField(
        child=serializers.CharField(),
        help_text="The labels that an agent must have to run its jobs, as far as they are known.",
    )
    revision = serializers.IntegerField(help_text="How often users have saved it.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PipelinePageSerializer(serializers.Serializer[Any]):
    """A page of pipelines by name."""

    pipelines = PipelineSerializer(many=True)
    total = serializers.IntegerField()
    next_cursor = serializers.CharField(allow_null=True)
