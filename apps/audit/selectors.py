"""Reading the trail."""

from dataclasses import dataclass
from datetime import timedelta

from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.cursors import cursor_decode, cursor_encode

_DAYS_BETWEEN = 8
_PAGES_BETWEEN = 5


@dataclass(frozen=True)
class AuditPage:
    """Records, newest first; `next_cursor` continues the list, or is None at its end."""

    records: list[AuditRecord]
    next_cursor: str | None


def audit_list(*, day: str, limit: int = 50, cursor: str | None = None) -> AuditPage:
    """The acts of a day (``YYYY-MM-DD``, UTC), newest first, read consistently: a record is there once its act is.

    Raises InvalidInput for a cursor that is not of this list.
    """
    scope = f"audit:{day}"
    start = cursor_decode(scope, cursor) if cursor else None
    found = AuditRecord.query(
        day,
        scan_index_forward=False,
        consistent_read=True,
        limit=limit,
        last_evaluated_key={"day": {"S": day}, "entry": {"S": start["entry"]}} if start else None,
    )
    records = list(found)
    more = found.last_evaluated_key is not None
    return AuditPage(records, cursor_encode(scope, {"entry": records[-1].entry}) if more and records else None)


def audit_of(*, target: str, limit: int = 50, cursor: str | None = None) -> AuditPage:
    """What was done to one thing (``kind:id``), newest first, from an index that lags by moments.

    Jobs are not in the index: see `audit_between`. Raises InvalidInput for a cursor that is not of this list.
    """
    scope = f"audit of {target}"
    start = cursor_decode(scope, cursor) if cursor else None
    found = AuditRecord.by_target.query(
        target,
        scan_index_forward=False,
        limit=limit,
        last_evaluated_key={
            "about": {"S": target},
            "day": {"S": start["entry"][:10]},
            "entry": {"S": start["entry"]},
        }
        if start
        else None,
    )
    keys = [(record.day, record.entry) for record in found]
    more = found.last_evaluated_key is not None
    records = sorted(AuditRecord.find_many(keys), key=lambda record: record.entry, reverse=True)
    return AuditPage(records, cursor_encode(scope, {"entry": keys[-1][1]}) if more and keys else None)


def audit_between(*, target: str, first: str, last: str, limit: int = 100) -> list[AuditRecord]:
    """What was done to one thing between two timestamps, oldest first; at most `limit` acts of at most eight days.

    Reads whatever else was done in that time, 5,000 acts of each day at most: for things with a short life.
    """
    records: list[AuditRecord] = []
    begin, end = (clock.parse_timestamp(text).date() for text in (first, last))
    for number in range(min((end - begin).days + 1, _DAYS_BETWEEN)):
        found = AuditRecord.query(
            (begin + timedelta(days=number)).isoformat(),
            # The tilde sorts behind the # after which an entry goes on.
            AuditRecord.entry.between(first, f"{last}~"),
            filter_condition=AuditRecord.target == target,
            consistent_read=True,
            page_size=1000,
        )
        for looked_at, page in enumerate(found.page_iter, start=1):
            records.extend(AuditRecord.from_raw_data(item) for item in page["Items"])
            if len(records) >= limit or looked_at == _PAGES_BETWEEN:
                break
    return records[:limit]
