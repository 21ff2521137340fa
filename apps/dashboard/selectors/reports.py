"""Compliance reports: what they have in common, and which there are.

A report is made from the audit trail, which does not change: the same period gives the same rows. What only today's
records know is in columns of its own, which are marked and no part of the report's digest.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.conf import settings

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.audit.selectors.sealed_periods import end_seal
from apps.audit.selectors.trail import BEGINNING, TrailSearch, settled_until, trail_page
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen

# A report reads at most so many events of the trail, and covers at most so many days.
MOST_EVENTS = 2_000
MOST_DAYS = 366
READ_AT_ONCE = 500
# A chart has a bar for each day, at most so many.
_CHART_DAYS = 31
# A note names so many at most.
_NAMED = 20


@frozen
class Column:
    """A column. One that is not `proven` comes from today's records, not from the trail."""

    title: str
    proven: bool = True


Row = tuple[Any, ...]


@frozen
class Period:
    """The days of a report, both included, and the place in the trail where it ends."""

    first: date
    last: date
    until: str

    @property
    def has_ended(self) -> bool:
        """Whether no further event of the period can come."""
        return self.until == midnight(self.last + timedelta(days=1))

    @property
    def since(self) -> str:
        """The time with which it begins."""
        return midnight(self.first)


@frozen
class Day:
    """What happened on a day, for a chart: how often it went well and how often not."""

    day: date
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0


@frozen
class Contents:
    """The rows of a report, what they cover, and what is to be known about them.

    `chart` is the title of a chart of `days` by `outcomes`; empty if there is none.
    """

    rows: list[Row]
    scope: str
    notes: tuple[str, ...] = ()
    chart: str = ""
    days: tuple[Day, ...] = ()
    outcomes: tuple[str, ...] = ()


@frozen
class Kind:
    """A kind of report: its name in addresses, its columns, and what finds its rows."""

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    find: Callable[[Period], Contents]
    signed_off: bool = False


@frozen
class Report:
    """A report of a period. `digest` is the SHA-256 of the proven columns of its rows, in hexadecimal digits."""

    kind: Kind
    period: Period
    contents: Contents
    made_at: str
    seal: str

    @property
    def rows(self) -> list[Row]:
        """The rows, each with a cell for each column."""
        return self.contents.rows

    @property
    def stage(self) -> str:
        """The stage whose trail it is made from."""
        return str(settings.STAGE)

    @property
    def digest(self) -> str:
        proven = [number for number, column in enumerate(self.kind.columns) if column.proven]
        content = {
            "report": self.kind.name,
            "from": self.period.since,
            "until": self.period.until,
            "columns": [self.kind.columns[number].title for number in proven],
            "rows": [[row[number] for number in proven] for row in self.rows],
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def period_of(first: date | None, last: date | None) -> Period:
    """The period of these days; without them, of the last 30 days that are over.

    Raises InvalidInput (field "from" or "to").
    """
    today = clock.now().date()
    last = last or today - timedelta(days=1)
    first = first or last - timedelta(days=29)
    if first > last:
        raise InvalidInput.field("from", "must not be after the day in “to”")
    if first > today:
        raise InvalidInput.field("from", "must not be in the future")
    if (last - first).days >= MOST_DAYS:
        raise InvalidInput.field("to", f"must be at most {MOST_DAYS} days after “from”; make one report a year")
    return Period(first, last, min(midnight(last + timedelta(days=1)), settled_until()))


def report_make(kind: Kind, period: Period) -> Report:
    """The report. Raises InvalidInput (field "to") if the period has more events than a report can have."""
    return Report(kind, period, kind.find(period), clock.timestamp(clock.now()), seal_in_words(period.until))


def seal_in_words(until: str) -> str:
    """The seal of the last event before this time, with the digest by which the trail itself can be verified."""
    try:
        end = end_seal(until)
    except (ValueError, TypeError):
        return "it cannot be read: the table of seals is damaged. Run manage.py audit_verify"
    if end.seal is None:
        return "none: no event up to the end of the period is sealed"
    statement = end.seal.statement
    rest = "" if end.final else "; later events of the period have no seal yet"
    return (
        f"{statement.number} of {in_words(statement.sealed_at)} UTC, after {statement.size:,} events in all, "
        f"digest {statement.digest}{rest}"
    )


def events_of(period: Period, actions: Sequence[Action], *, from_beginning: bool = False) -> list[Any]:
    """The events of these actions in the period, or up to its end, oldest first. Eight queries for each action.

    Raises InvalidInput (field "to") if there are more than MOST_EVENTS.
    """
    found: list[Any] = []
    for action in actions:
        place: str | None = BEGINNING if from_beginning else period.since
        while place is not None:
            page = trail_page(TrailSearch(action=action.value), after=place, until=period.until, limit=READ_AT_ONCE)
            found += page.records
            place = page.next
            if len(found) > MOST_EVENTS:
                raise InvalidInput.field(
                    "to",
                    f"must be earlier: up to then there are more than {MOST_EVENTS:,} events, which is the most that "
                    "a report has. `manage.py audit_export` writes any number",
                )
    return sorted(found, key=lambda record: str(record.entry))


def by_day(period: Period, completed: Iterable[str] = (), failed: Iterable[str] = ()) -> tuple[Day, ...]:
    """How many of these times are on each day of the period, for a chart; no days if they are too many for one."""
    length = (period.last - period.first).days + 1
    if length > _CHART_DAYS:
        return ()
    good, bad = (Counter(time[:10] for time in times) for times in (completed, failed))
    days = (period.first + timedelta(days=number) for number in range(length))
    return tuple(Day(day, good[day.isoformat()], bad[day.isoformat()]) for day in days)


def left_out(what: str, names: Iterable[str]) -> tuple[str, ...]:
    """A note about what today's records have and the trail does not: AUDIT_RETENTION may have deleted its creation."""
    found = sorted(names)
    if not found:
        return ()
    named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    return (f"The trail no longer has the creation of these {what}, so they are left out: {named}.",)


def who(record: Any) -> str:
    """The actor of an event, for people: its name and what it is."""
    return f"{record.actor_name} ({record.actor_kind})" if record.actor_kind != "user" else str(record.actor_name)


def in_words(time: str) -> str:
    """A time of the audit trail as people read it, to the second."""
    return f"{time[:10]} {time[11:19]}"


def days_between(since: str | None, until: str) -> int | None:
    """The whole days between two times; None without the first."""
    if since is None:
        return None
    return (clock.parse_timestamp(until) - clock.parse_timestamp(since)) // timedelta(days=1)


def columns(*titles: str, today: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Columns from the trail, and behind them those of today's records."""
    return (*(Column(title) for title in titles), *(Column(title, proven=False) for title in today))


def changed_to(detail: Any) -> str:
    """The new one of the values that a detail has, as ``old → new``. Older events have the new one only."""
    return str(detail).rpartition(" → ")[2]


def identifier(record: Any) -> str:
    """The id in the target of an event."""
    return str(record.target).partition(":")[2]


def midnight(day: date) -> str:
    """The time with which a day begins."""
    return clock.timestamp(datetime.combine(day, time(), UTC))


@frozen
class SignOff:
    """That someone has reviewed a report. `is_of_this` says whether it had the content that it has now."""

    who: str
    at: str
    comment: str
    is_of_this: bool
    actor_id: str


def sign_offs(report: Report) -> list[SignOff]:
    """The last sign-offs of the report's period, newest first. They may lag by moments."""
    found = audit_search(target=f"report:{report.kind.name}", action=Action.REPORT_SIGNED_OFF, limit=100)
    days = (report.period.first.isoformat(), report.period.last.isoformat())
    return [
        SignOff(
            who(record),
            str(record.at),
            str(record.detail.get("comment") or ""),
            record.detail.get("sha256") == report.digest,
            str(record.actor_id),
        )
        for record in found.records
        if record.detail and (record.detail.get("from"), record.detail.get("to")) == days
    ]
