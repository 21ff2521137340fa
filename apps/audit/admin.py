"""The audit trail in the admin: its own page, and the histories on the pages of all other records."""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin import display
from django.http import HttpRequest

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import BY_DAY, BY_TARGET, LISTED_DAYS, audit_list, audit_of
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.options import NosqlModelAdmin
from controlplane.nosql.admin.site import History, HistoryEntry, site
from controlplane.nosql.facade import Facade

PERMISSION = "audit.read"
# How many of today's events the admin's first page shows.
_RECENT = 10


def history_entry(record: AuditRecord) -> HistoryEntry:
    """An audit event as a line of a history, in words for people."""
    detail = ", ".join(f"{name} {value}" for name, value in (record.detail or {}).items() if value is not None)
    refused = "" if record.result == "ok" else f" ({record.result})"
    return HistoryEntry(
        at=clock.parse_timestamp(record.at),
        who=record.actor_name,
        what=record.action.replace(".", " ").replace("_", " ") + refused,
        target=record.target,
        detail=detail,
    )


def history_of(target: str, cursor: str | None) -> History:
    """A page of the audit events of one target. Raises InvalidInput for a cursor of another list."""
    page = audit_of(target=target, cursor=cursor)
    return History([history_entry(record) for record in page.records], page.next_cursor)


def recent_events(actor: Actor) -> Sequence[HistoryEntry]:
    """Today's last audit events; an empty list if the actor lacks the permission to read the trail."""
    if PERMISSION not in actor.permissions:
        return []
    today = clock.timestamp(clock.now())[:10]
    return [history_entry(record) for record in audit_list(day=today, limit=_RECENT).records]


class AuditFacade(Facade, record=AuditRecord):
    """An audit event in the admin. Its key begins with its day, which is its partition."""

    listings = (BY_TARGET, BY_DAY)

    @classmethod
    def partition(cls, key: str) -> str:
        return key[:10]

    class Meta(Facade.Meta):
        verbose_name = "audit event"
        verbose_name_plural = "audit trail"

    def __str__(self) -> str:
        return f"{self.record.action} {self.record.target}"


class AuditAdmin(NosqlModelAdmin):
    """The page of the audit trail. It is read-only."""

    permissions = {"view": PERMISSION}  # noqa: RUF012 — declared as ClassVar in the base
    list_display = ("at", "actor_name", "action", "target", "result", "in_words")
    list_filter = (FieldFilter.make("action", "action", [(action.value, action.value) for action in Action]),)
    search_fields = ("target",)
    search_help_text = "A day, such as 2026-11-21, or a target, such as user:01ka… or pipeline:name."
    details = ("at", "actor_kind", "actor_id", "actor_name", "action", "target", "result", "in_words")

    def list_note(self, request: HttpRequest) -> str:  # noqa: ARG002 — the base's own
        return f"The audit events of the last {LISTED_DAYS} days, newest first. Search for a day to see older events."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(about=term) if ":" in term else queryset.filter(day=term)

    @display(description="time")
    def at(self, obj: Any) -> str:
        return str(obj.record.at)[:19].replace("T", " ")

    @display(description="detail", empty_value="")
    def in_words(self, obj: Any) -> str:
        return history_entry(obj.record).detail

    def history_target(self, obj: Any) -> str:
        return str(obj.target)


site.register(AuditFacade, AuditAdmin)
