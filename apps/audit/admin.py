"""The audit trail in the admin: its own page, and the histories on the pages of all other records."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.html import format_html

from apps.audit.actions import Action
from apps.audit.models import AuditRecord, entry_partition
from apps.audit.policies import PERMISSION
from apps.audit.selectors import (
    LISTED_DAYS,
    LISTINGS,
    actor_meant,
    audit_about,
    audit_conditions,
    audit_list,
    entry_before,
    entry_from,
)
from apps.audit.selectors.overview import trail_protection
from apps.audit.selectors.seals import position_find
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from controlplane.nosql.admin.forms import SearchForm
from controlplane.nosql.admin.options import NosqlModelAdmin
from controlplane.nosql.admin.site import History, HistoryEntry, site
from controlplane.nosql.facade import Facade

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


def history_of(targets: Sequence[str], cursor: str | None, detail: Mapping[str, str]) -> History:
    """A page of the audit events of these targets together, of those whose detail has all members of `detail`.

    Raises InvalidInput for a cursor of another list.
    """
    page = audit_about(targets, detail=detail, cursor=cursor)
    return History([history_entry(record) for record in page.records], page.next_cursor)


def recent_events(actor: Actor) -> Sequence[HistoryEntry]:
    """Today's last audit events; an empty list if the actor lacks the permission to read the trail."""
    if PERMISSION not in actor.permissions:
        return []
    today = clock.timestamp(clock.now())[:10]
    return [history_entry(record) for record in audit_list(day=today, limit=_RECENT).records]


class AuditFacade(Facade, record=AuditRecord, hidden=("about", "actor_key", "action_key")):
    """An audit event in the admin. Its key says in which partition it is."""

    listings = LISTINGS

    @classmethod
    def partition(cls, key: str) -> str:
        return entry_partition(key)

    class Meta(Facade.Meta):
        verbose_name = "audit event"

    def __str__(self) -> str:
        return f"{self.record.action} {self.record.target}"


# Gives the actors (``kind:id``) that people mean by a text: an e-mail address, a name or an id.
ActorFinder = Callable[[str], Sequence[str]]


class AuditSearch(SearchForm):
    """The search of the audit trail."""

    # This app knows neither users nor agents. `controlplane.admin_urls` sets how they are found.
    actors_meant: ClassVar[ActorFinder]

    actor = forms.CharField(
        required=False,
        max_length=200,
        help_text="An e-mail address, the name or the id of an agent, user:…, token:…, agent:…, or system.",
    )
    target = forms.CharField(
        required=False, max_length=200, help_text="What was changed, such as job:01ka…, user:01ka… or pipeline:web."
    )
    action = forms.ChoiceField(
        required=False, choices=[("", "Any"), *((action.value, action.value) for action in Action)]
    )
    first_day = forms.DateField(
        label="From", required=False, widget=forms.DateInput({"type": "date"}), help_text="Days are in UTC."
    )
    first_time = forms.TimeField(label="From time", required=False, widget=forms.TimeInput({"type": "time"}))
    last_day = forms.DateField(label="To", required=False, widget=forms.DateInput({"type": "date"}))
    last_time = forms.TimeField(
        label="To time",
        required=False,
        widget=forms.TimeInput({"type": "time"}),
        help_text="The minute is included. Times are in UTC.",
    )

    def clean_actor(self) -> str | None:
        """The actor as ``kind:id`` or ``system``; an e-mail address or the name of an agent leads to it."""
        text = self.cleaned_data["actor"]
        try:
            return actor_meant(text, type(self).actors_meant) if text else None
        except InvalidInput as error:
            raise forms.ValidationError(error.errors[0]["message"]) from error

    def clean(self) -> None:
        for end in ("first", "last"):
            if self.cleaned_data.get(f"{end}_time") and not self.cleaned_data.get(f"{end}_day"):
                self.add_error(f"{end}_day", "A time needs its day.")
        first, last = self._end("first"), self._end("last")
        if first and last and entry_from(first) > entry_before(last):
            self.add_error("first_day", "The first day and time must not be after the last ones.")

    def conditions(self) -> dict[str, str]:
        asked = {name: self.cleaned_data.get(name) or None for name in ("actor", "target", "action")}
        return audit_conditions(**asked, first_day=self._end("first"), last_day=self._end("last"))

    def _end(self, end: str) -> date | datetime | None:
        """The day, or the moment if it has a time. The last minute is included, so the moment is the end of it."""
        day, moment = self.cleaned_data.get(f"{end}_day"), self.cleaned_data.get(f"{end}_time")
        if day is None or moment is None:
            return day
        return datetime.combine(day, moment, UTC) + timedelta(minutes=1 if end == "last" else 0)


class AuditAdmin(NosqlModelAdmin):
    """The page of the audit trail. It is read-only."""

    permissions = {"view": PERMISSION}  # noqa: RUF012 — declared as ClassVar in the base
    list_display = ("at", "actor_link", "action", "target_link", "result", "in_words")
    search_form = AuditSearch
    details = (
        *("at", "actor_kind", "actor_id", "actor_name", "address", "session", "request_id"),
        *("action", "target", "result", "in_words", "seal"),
    )

    def list_note(self, request: HttpRequest) -> str:
        if any(request.GET.get(name) for name in ("actor", "target", "action", "first_day")):
            return ""
        older = f"The list covers {LISTED_DAYS} days. To see older events, search, or choose a first day."
        return f"{older} {_sealed_note()}"

    @display(description="time")
    def at(self, obj: Any) -> str:
        return str(obj.record.at)[:19].replace("T", " ")

    @display(description="actor")
    def actor_link(self, obj: Any) -> str:
        """The actor's name, with a link to all that it did."""
        actor = obj.actor_kind if obj.actor_kind == "system" else f"{obj.actor_kind}:{obj.actor_id}"
        return _search_link(obj.actor_name, actor=actor)

    @display(description="target")
    def target_link(self, obj: Any) -> str:
        """The target, with a link to all that was done to it."""
        return _search_link(obj.target, target=obj.target)

    @display(description="detail", empty_value="")
    def in_words(self, obj: Any) -> str:
        return history_entry(obj.record).detail

    @display(description="seal", empty_value="")
    def seal(self, obj: Any) -> str:
        """The seal that has the event."""
        position = position_find(obj.entry)
        if position is None:
            return "not sealed yet"
        statement = position.seal.statement
        return f"seal {statement.number}, sealed {_shown(statement.sealed_at)}, event {position.leaf + 1} of the trail"

    def history_target(self, obj: Any) -> str:
        return str(obj.target)


def _sealed_note() -> str:
    """Up to when the trail is sealed, and what its last check has found."""
    protection = trail_protection()
    if protection.sealed_until is None:
        return "The trail is not sealed yet."
    sealed = f"The trail is sealed up to {_shown(protection.sealed_until)}, by seal {protection.seal}."
    if protection.checked_at is None:
        return f"{sealed} It was never checked: run manage.py audit_verify."
    found = "found it unchanged" if protection.is_unchanged else "FOUND THAT IT WAS CHANGED"
    return f"{sealed} The last check, of {_shown(protection.checked_at)}, {found}."


def _shown(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"


def _search_link(text: str, **search: str) -> str:
    return format_html('<a href="?{}">{}</a>', urlencode(search), text)


site.register(AuditFacade, AuditAdmin)
