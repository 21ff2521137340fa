"""Reading the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.nosql.listing import Listing, place_decode

# How many days the list of all events covers. A search for a day finds older events.
LISTED_DAYS = 31

_DAYS_BETWEEN = 8
# How many events `audit_between` examines in a day, and in a call.
_LOOK_BETWEEN, _CALL_BETWEEN = 5_000, 1_000


def _days(asked: Mapping[str, Any]) -> list[str]:
    if "day" in asked:
        return [asked["day"]]
    today = clock.now().date()
    return [(today - timedelta(days=number)).isoformat() for number in range(LISTED_DAYS)]


def _target(asked: Mapping[str, Any]) -> list[str] | None:
    return [asked["about"]] if "about" in asked else None


BY_TARGET = Listing(AuditRecord, AuditRecord.by_target, _target, filters={"action"}, descending=True)
BY_DAY = Listing(AuditRecord, None, _days, filters={"action"}, descending=True)
_OLDEST_FIRST = Listing(AuditRecord, None, look=_CALL_BETWEEN)


@dataclass(frozen=True)
class AuditPage:
    """Audit events, newest first. `next_cursor` continues the list and is None on its last page."""

    records: list[AuditRecord]
    next_cursor: str | None


def audit_list(*, day: str, limit: int = 50, cursor: str | None = None) -> AuditPage:
    """The events of a day (``YYYY-MM-DD``, UTC), newest first, read consistently.

    Raises InvalidInput for a cursor of another list.
    """
    scope = f"audit:{day}"
    page = BY_DAY.page([day], limit=limit, start=place_decode(scope, cursor))
    return AuditPage(page.records, page.next_cursor(scope))


def audit_of(*, target: str, limit: int = 50, cursor: str | None = None) -> AuditPage:
    """The events of one target (``kind:id``), newest first, from an index that may lag by a moment.

    Events of jobs are not in the index: see `audit_between`. Raises InvalidInput for a cursor of another list.
    """
    scope = f"audit of {target}"
    page = BY_TARGET.page([target], limit=limit, start=place_decode(scope, cursor))
    return AuditPage(page.records, page.next_cursor(scope))


def audit_between(*, target: str, first: str, last: str, limit: int = 100) -> list[AuditRecord]:
    """The events of one target between two timestamps, oldest first: at most `limit`, of at most eight days.

    It examines all events of that period, at most about 5,000 a day, so use it only for targets with a short life.
    """
    records: list[AuditRecord] = []
    begin, end = (clock.parse_timestamp(text).date() for text in (first, last))
    for number in range(min((end - begin).days + 1, _DAYS_BETWEEN)):
        if len(records) >= limit:
            break
        page = _OLDEST_FIRST.page(
            [(begin + timedelta(days=number)).isoformat()],
            limit=limit - len(records),
            # An entry has a # after its time, and a tilde sorts after a #.
            within=AuditRecord.entry.between(first, f"{last}~"),
            condition=AuditRecord.target == target,
            look_at_most=_LOOK_BETWEEN,
        )
        records += page.records
    return records
