"""Connections and their events as JSON. The services check what makes an id, an address or a secret valid."""

from typing import Any, cast

from django.urls import get_script_prefix
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.sources.selectors import webhook_path
from apps.sources.states import DeliveryState, ProviderName
from controlplane.http.drf_fields import ChoiceField, FlagField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH

_MAX_URL = 500
_MAX_SECRET = 16 * 1024


class ConnectionChangeSerializer(serializers.Serializer[Any]):
    """The body of ``PATCH /connections/{connection_id}``: what is left out stays, and null empties it."""

    name = TextField(required=False, allow_null=True, max_length=100, help_text="For people. Null: the id.")
    api_url = TextField(required=False, allow_null=True, max_length=_MAX_URL, help_text="Where its API is.")
    web_url = TextField(required=False, allow_null=True, max_length=_MAX_URL, help_text="Where its pages are.")
    token = TextField(
        required=False,
        allow_null=True,
        max_length=_MAX_SECRET,
        help_text="A token for the provider's API. It is encrypted, and no answer has it.",
    )
    app_id = TextField(required=False, allow_null=True, max_length=100, help_text="Of a GitHub App that exists.")
    app_slug = TextField(required=False, allow_null=True, max_length=100, help_text="The name in its address.")
    private_key = TextField(
        required=False,
        allow_null=True,
        max_length=_MAX_SECRET,
        help_text="The private key of a GitHub App, as GitHub gives it out (PEM). No answer has it.",
    )


class ConnectionCreateSerializer(ConnectionChangeSerializer):
    """The body of ``POST /connections``."""

    connection_id = TextField(
        max_length=63, help_text="Small letters, digits and -. It is part of the webhook's address and never changes."
    )
    provider = ChoiceField([name.value for name in ProviderName], help_text="gitea is also Forgejo.")


class SecretRotateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /connections/{connection_id}/webhook-secret``."""

    leaked = serializers.BooleanField(
        required=False, default=False, help_text="With true, the old secret ends at once, and not after 24 hours."
    )


class ConnectionSerializer(serializers.Serializer[Any]):
    """A connection, without its secrets. Times are RFC 3339 in UTC."""

    connection_id = serializers.CharField()
    provider = serializers.ChoiceField(choices=[name.value for name in ProviderName])
    name = serializers.CharField()
    api_url = serializers.CharField(allow_null=True)
    web_url = serializers.CharField(allow_null=True)
    webhook_path = serializers.SerializerMethodField()
    has_token = serializers.SerializerMethodField()
    app_id = serializers.CharField(allow_null=True, help_text="Of a GitHub App.")
    app_slug = serializers.CharField(allow_null=True)
    webhook_secret_changed_at = serializers.CharField(allow_null=True)
    previous_webhook_secret_until = serializers.CharField(
        allow_null=True, help_text="Until when the webhook secret before this one is accepted, too."
    )
    refused_at = serializers.CharField(
        allow_null=True, help_text="When a webhook with a wrong signature came last; at most one a minute is noted."
    )
    refused_because = serializers.CharField(allow_null=True)
    revision = serializers.IntegerField(help_text="Counts the changes by users.")
    created_at = serializers.CharField()
    created_by = serializers.CharField()
    changed_at = serializers.CharField()
    changed_by = serializers.CharField()

    @extend_schema_field(serializers.CharField())
    def get_webhook_path(self, connection: Any) -> str:
        """Where the provider sends webhooks to, without the host."""
        return f"{get_script_prefix().rstrip('/')}{webhook_path(connection)}"

    @extend_schema_field(serializers.BooleanField())
    def get_has_token(self, connection: Any) -> bool:
        return bool(connection.encrypted_token)


class ConnectionsSerializer(serializers.Serializer[Any]):
    """The connections by their ids."""

    connections = ConnectionSerializer(many=True)


class ConnectionMadeSerializer(ConnectionSerializer):
    """A connection with a new webhook secret, which no other answer has."""

    webhook_secret = serializers.SerializerMethodField()

    @extend_schema_field(serializers.CharField())
    def get_webhook_secret(self, _connection: Any) -> str:
        """Enter it at the provider. It cannot be shown again."""
        return str(self.context["webhook_secret"])


class EventListQuerySerializer(serializers.Serializer[Any]):
    """The parameters of ``GET /connections/{connection_id}/events``."""

    troubled = FlagField(required=False, default=False, help_text="Only those that were refused or have failed.")
    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class EventResultSerializer(serializers.Serializer[Any]):
    """What came of an event for one pipeline."""

    pipeline = serializers.SerializerMethodField()
    run_id = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField()

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_pipeline(self, result: Any) -> str | None:
        return cast("str | None", result.get("pipeline"))

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_run_id(self, result: Any) -> str | None:
        return cast("str | None", result.get("run_id"))

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_reason(self, result: Any) -> str | None:
        """Why there is no run."""
        return cast("str | None", result.get("reason"))


class ConnectionEventSerializer(serializers.Serializer[Any]):
    """An event that a connection's provider has delivered and signed."""

    event_id = serializers.CharField()
    connection_id = serializers.CharField()
    delivery_id = serializers.CharField(help_text="The provider's id of the delivery.")
    kind = serializers.CharField(allow_blank=True, help_text="The provider's word for it.")
    repository = serializers.CharField(allow_null=True)
    summary = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(choices=[state.value for state in DeliveryState])
    reason = serializers.CharField(allow_null=True, help_text="Why it is so, or why there is no run.")
    results = serializers.SerializerMethodField()
    attempts = serializers.IntegerField()
    repetitions = serializers.IntegerField(help_text="How often the provider has sent it again.")
    received_at = serializers.CharField()

    @extend_schema_field(EventResultSerializer(many=True))
    def get_results(self, delivery: Any) -> Any:
        return EventResultSerializer(delivery.results or [], many=True).data


class ConnectionEventPageSerializer(serializers.Serializer[Any]):
    """A page of events, the newest first."""

    events = ConnectionEventSerializer(many=True, source="deliveries")
    next_cursor = serializers.CharField(allow_null=True)


class RepositorySerializer(serializers.Serializer[Any]):
    """A repository that a connection reaches."""

    full_name = serializers.CharField(help_text="As acme/shop.")
    clone_url = serializers.CharField()
    web_url = serializers.CharField(allow_null=True)
    default_branch = serializers.CharField(allow_null=True)
    is_private = serializers.BooleanField()


class RepositoriesSerializer(serializers.Serializer[Any]):
    """The repositories that a connection reaches, by their names."""

    repositories = RepositorySerializer(many=True)


class InstallationSerializer(serializers.Serializer[Any]):
    """Where a GitHub App is installed."""

    installation_id = serializers.CharField()
    account = serializers.CharField(help_text="The user or organisation.")
    selects_all = serializers.BooleanField(help_text="Whether it reaches all repositories of the account.")
    is_suspended = serializers.BooleanField()
    url = serializers.CharField(allow_null=True)


class InstallationsSerializer(serializers.Serializer[Any]):
    """Where a connection's GitHub App is installed."""

    installations = InstallationSerializer(many=True)


class RepositoryPipelineSerializer(serializers.Serializer[Any]):
    """The body of ``POST /connections/{connection_id}/pipelines``."""

    repository = TextField(max_length=500, help_text="The full name of a repository that the connection reaches.")
    name = TextField(
        required=False, allow_null=True, max_length=63, help_text="Of the pipeline. Left out: that of the repository."
    )
    default_ref = TextField(
        required=False, allow_null=True, max_length=255, help_text="Left out: the default branch of the repository."
    )


class PipelineMadeSerializer(serializers.Serializer[Any]):
    """A pipeline that is bound to a repository. ``GET /pipelines/{name}`` has all of it."""

    name = serializers.CharField()
    repository = serializers.CharField()
    default_ref = serializers.CharField()
    source = serializers.CharField(help_text="The connection.")  # type: ignore[assignment]
    source_repository = serializers.CharField()
