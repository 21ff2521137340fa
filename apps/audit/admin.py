"""The audit trail in the admin: a page to read it, and the history of everything else."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.contrib.admin import display
from django.http import HttpRequest

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list, audit_of
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.options import NosqlModelAdmin
from controlplane.nosql.admin.site import Act, History, site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing

PERMISSION = "audit.read"
# So many days are listed; an older one is found by searching for it.
_DAYS = 31
_RECENT = 10


def act_of(record: AuditRecord) -> Act:
    """A record of the trail in words."""
    detail = ", ".join(f"{name} {value}" for name, value in (record.detail or {}).items() if value is not None)
    refused = "" if record.result == "ok" else f" ({record.result})"
    return Act(
        at=clock.parse_timestamp(record.at),
        who=record.actor_name,
        what=record.action.replace(".", " ").replace("_", " ") + refused,
        target=record.target,
        detail=detail,
    )


def history_of(target: str, cursor: str | None) -> History:
    """What was done to one thing, a page at a time. Raises InvalidInput for a cursor of another list."""
    page = audit_of(target=target, cursor=cursor)
    return History([act_of(record) for record in page.records], page.next_cursor)


def recent_acts(actor: Actor) -> Sequence[Act]:
    """Today's last acts, for whoever may read the trail."""
    if PERMISSION not in actor.permissions:
        return []
    today = clock.timestamp(clock.now())[:10]
    return [act_of(record) for record in audit_list(day=today, limit=_RECENT).records]


def _days(asked: Mapping[str, Any]) -> list[str]:
    if "day" in asked:
        return [asked["day"]]
    today = clock.now().date()
    return [(today - timedelta(days=number)).isoformat() for number in range(_DAYS)]


def _target(asked: Mapping[str, Any]) -> list[str] | None:
    return [asked["about"]] if "about" in asked else None


class AuditFacade(Facade, record=AuditRecord):
    """An act as the admin sees it. An entry begins with its day, and so with its partition."""

    listings = (
        Listing(AuditRecord, AuditRecord.by_target, _target, filters={"action"}, descending=True),
        Listing(AuditRecord, None, _days, filters={"action"}, descending=True),
    )

    @classmethod
    def partition(cls, key: str) -> str:
        return key[:10]

    class Meta(Facade.Meta):
        verbose_name = "act"
        verbose_name_plural = "audit trail"

    def __str__(self) -> str:
        return f"{self.record.action} {self.record.target}"


class AuditAdmin(NosqlModelAdmin):
    """To be read only, as the trail is for everybody."""

    permissions = {"view": PERMISSION}  # noqa: RUF012 — declared as ClassVar in the base
    list_display = ("at", "actor_name", "action", "target", "result", "in_words")
    list_filter = (FieldFilter.make("action", "act", [(action.value, action.value) for action in Action]),)
    search_fields = ("target",)
    search_help_text = "A day, as 2026-11-21, or what was acted on, as user:01ka… or pipeline:name."
    details = ("at", "actor_kind", "actor_id", "actor_name", "action", "target", "result", "in_words")

    def list_note(self, request: HttpRequest) -> str:  # noqa: ARG002 — the same for everybody
        return f"The last {_DAYS} days, newest first. Search for an older day."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(about=term) if ":" in term else queryset.filter(day=term)

    @display(description="time")
    def at(self, obj: Any) -> str:
        return str(obj.record.at)[:19].replace("T", " ")

    @display(description="detail", empty_value="")
    def in_words(self, obj: Any) -> str:
        return act_of(obj.record).detail

    def history_target(self, obj: Any) -> str:
        return str(obj.target)


site.register(AuditFacade, AuditAdmin)
