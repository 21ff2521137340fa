"""Pipelines as JSON. The services check what makes a name, an address, a ref or a definition valid."""

from typing import Any

from rest_framework import serializers

from apps.pipelines.definitions import MAX_SERVER_BYTES
from apps.pipelines.importing import PRODUCTS
from controlplane.http.drf_fields import ChoiceField, FlagField, ListField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH
from controlplane.lib.labels import MAX_LABELS


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
    labels = ListField(
        child=TextField(max_length=63),
        default=None,
        allow_null=True,
        max_length=MAX_LABELS,
        help_text="The labels that each job requires beside those of the repository's file, which cannot remove them. "
        "Null or left out: they stay as they are. A definition has its own labels, so they must be empty with one.",
    )
    badge = FlagField(
        default=None,
        allow_null=True,
        help_text="Whether everyone may see its badge, also without signing in. Null or left out: it stays as it is.",
    )
    fetch_secret = TextField(
        default=None,
        allow_null=True,
        allow_blank=True,
        max_length=64,
        help_text="The name of the secret with which agents fetch the repository: a token, user:token, or a private "
        "key for SSH. Null or left out: it stays as it is. Empty: agents use what their machines have.",
    )
    source = TextField(  # type: ignore[assignment]
        default=None,
        allow_null=True,
        allow_blank=True,
        max_length=63,
        help_text="The connection whose events start runs. Null or left out: it stays as it is. Empty: none.",
    )
    source_repository = TextField(
        default=None,
        allow_null=True,
        max_length=300,
        help_text="The full name of the repository there, as acme/shop; given together with `source`.",
    )


class DefinitionCheckSerializer(serializers.Serializer[Any]):
    """The body of ``POST /definitions/check``."""

    definition = TextField(allow_blank=True, max_length=MAX_SERVER_BYTES, help_text="The text of a pipeline file.")


class DefinitionCheckedSerializer(serializers.Serializer[Any]):
    """What a valid pipeline file defines."""

    jobs = serializers.ListField(child=serializers.CharField(), help_text="The names of its jobs.")
    parameters = serializers.ListField(child=serializers.CharField(), help_text="The names of its parameters.")


class DefinitionImportSerializer(serializers.Serializer[Any]):
    """The body of ``POST /definitions/import``."""

    product = ChoiceField(choices=PRODUCTS, help_text="Whose file it is.")
    text = TextField(
        allow_blank=True, max_length=MAX_SERVER_BYTES, help_text="The file. Files that it includes are not read."
    )


class RemarkSerializer(serializers.Serializer[Any]):
    """Something of the file that a user has to look at."""

    line = serializers.IntegerField(help_text="Of the file that was converted.")
    subject = serializers.CharField(help_text="Which part of it, as jobs.test.services.")
    message = serializers.CharField()


class DefinitionImportedSerializer(serializers.Serializer[Any]):
    """A file of another product as a pipeline file."""

    definition = serializers.CharField(source="text", help_text="A valid pipeline file.")
    jobs = serializers.IntegerField(help_text="How many jobs it has.")
    whole = serializers.IntegerField(help_text="How many of them need no more work by hand.")
    remarks = RemarkSerializer(many=True)


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
        help_text="The labels that each job requires from the start. The repository's file may add some for one job.",
    )
    badge = serializers.SerializerMethodField(help_text="Whether everyone may see its badge.")
    fetch_secret = serializers.CharField(
        allow_null=True, help_text="The name of the secret with which agents fetch the repository."
    )
    revision = serializers.IntegerField(help_text="How often users have saved it.")
    paused_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when it is paused: the first jobs of newer runs wait. Null if it is not."
    )
    source = serializers.CharField(  # type: ignore[assignment]
        allow_null=True, help_text="The connection whose events start runs."
    )
    source_repository = serializers.CharField(allow_null=True)
    paused_by = serializers.CharField(allow_null=True, help_text="The user who paused it.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_badge(self, pipeline: Any) -> bool:
        return bool(pipeline.badge)


class PipelinePageSerializer(serializers.Serializer[Any]):
    """A page of pipelines by name."""

    pipelines = PipelineSerializer(many=True)
    total = serializers.IntegerField()
    next_cursor = serializers.CharField(allow_null=True)
