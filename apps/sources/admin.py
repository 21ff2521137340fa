"""Connections and what they have delivered, in the admin. Their secrets go in and never come out."""

from collections.abc import Mapping
from typing import Any

from django.contrib.admin import display

from apps.accounts.policies import Permission
from apps.sources.models import SPACE, Connection, Delivery
from apps.sources.selectors import connection_list, delivery_months, webhook_path
from apps.sources.services import connection_change, connection_delete, delivery_redeliver
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.forms import RecordForm, revision, text, write_only_text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing


class ConnectionFacade(Facade, record=Connection, only_partition=SPACE):
    """A connection as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "connection"

    def __str__(self) -> str:
        return str(self.record.connection_id)


class ConnectionForm(RecordForm):
    """What a user can change of a connection here. Its page makes new secrets, and shows them once."""

    revision_field = "revision"

    name = text(max_length=100, help_text="For people.")
    api_url = text(label="Address of the API", required=False, max_length=500)
    web_url = text(label="Address of the pages", required=False, max_length=500)
    token = write_only_text(
        required=False, max_length=16_384, help_text="For the API of the provider. Empty: it stays."
    )
    revision = revision()

    def shown(self, name: str, facade: Any) -> Any:
        return None if name == "token" else super().shown(name, facade)

    def write(self, actor: Actor) -> Connection:
        members = {name: self.cleaned_data[name] or None for name in ("name", "api_url", "web_url")}
        if self.cleaned_data["token"]:
            members["token"] = self.cleaned_data["token"].strip()
        return connection_change(
            actor=actor, connection_id=self.instance.pk, revision=self.cleaned_data["revision"], **members
        )


class ConnectionAdmin(NosqlModelAdmin):
    # A form may escape each byte of a token.
    body_limit = 128 * 1024
    permissions = {  # noqa: RUF012
        "view": Permission.PIPELINES_READ,
        "change": Permission.CONNECTIONS_MANAGE,
        "delete": Permission.CONNECTIONS_MANAGE,
    }
    history_kind = "connection"
    list_display = ("connection_id", "provider", "name", "webhook", moment("refused_at"))
    form = ConnectionForm
    details = (
        "connection_id",
        "provider",
        "webhook",
        "app_id",
        "app_slug",
        moment("webhook_secret_changed_at"),
        moment("previous_webhook_secret_until"),
        moment("refused_at"),
        "refused_because",
        "created_by",
        moment("created_at"),
        "changed_by",
        moment("changed_at"),
    )
    delete_note = "Its webhooks are refused from then on."

    def record_delete(self, actor: Actor, obj: Any) -> None:
        connection_delete(actor=actor, connection_id=obj.pk)

    @display(description="address for webhooks")
    def webhook(self, obj: Any) -> str:
        return webhook_path(obj.record)


site.register(ConnectionFacade, ConnectionAdmin)


def _partitions(asked: Mapping[str, Any]) -> list[str] | None:
    """Those of all connections, or of the one that is searched for, in the order in which a page finds its place."""
    everywhere = [] if "connection_id" in asked else [str(one.connection_id) for one in connection_list()]
    names = everywhere or [asked.get("connection_id", "-")]
    return sorted((month for name in names for month in delivery_months(name)), reverse=True)


class DeliveryFacade(Facade, record=Delivery):
    """A delivery as the admin shows it."""

    listings = (Listing(Delivery, Delivery.by_month, _partitions, filters=("connection_id",), descending=True),)

    class Meta(Facade.Meta):
        verbose_name = "delivery"
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return str(self.record.summary or self.record.kind or self.record.event_id)


class DeliveryAdmin(NosqlModelAdmin):
    permissions = {"view": Permission.PIPELINES_READ}  # noqa: RUF012
    list_display = ("summary", "connection_id", "repository", "state", "reason", moment("received_at"))
    search_fields = ("connection_id",)
    search_help_text = "The id of a connection."
    details = (
        "event_id",
        "connection_id",
        "delivery_id",
        "kind",
        "repository",
        "summary",
        "state",
        "reason",
        "outcomes",
        "attempts",
        "repetitions",
        moment("received_at"),
    )

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(connection_id=term.lower())

    @act("Redeliver", permission=Permission.JOBS_CREATE, done="The sweep works it off once more")
    def redeliver(self, actor: Actor, obj: Any) -> None:
        delivery_redeliver(actor=actor, connection_id=str(obj.record.connection_id), event_id=obj.pk)

    @display(description="came of it", empty_value="-")
    def outcomes(self, obj: Any) -> str:
        found = obj.record.results or ()
        return ", ".join(
            f"{one.get('pipeline') or '-'}: {one.get('run_id') or one.get('reason') or '-'}" for one in found
        )


site.register(DeliveryFacade, DeliveryAdmin)
