"""The report "Integrity of the trail": what was sealed on each day, and what checks of the trail have found."""

from datetime import timedelta
from itertools import groupby, pairwise
from typing import Any

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.audit.selectors.sealed_periods import SealAt, end_seal, seal_digests, seals_at
from apps.audit.selectors.seals import CHECKED
from apps.dashboard.selectors.reports import Contents, Kind, Period, Row, columns, events_of, midnight
from controlplane.lib import clock

_SCOPE = "The seals of all events of the trail, and the checks by audit_verify"
_NOTES = (
    "A seal counts on the day on which its time ends.",
    "Seals follow each other without a gap: a minute without an event is part of the time of the next seal.",
    "This report reads the seals at the ends of days. manage.py audit_verify checks each seal and each event.",
)
_DAMAGED = "missing or damaged"
_VERIFY = "Run manage.py audit_verify."


def _integrity(period: Period) -> Contents:
    days = [period.first + timedelta(days=number) for number in range((period.last - period.first).days + 1)]
    days = [day for day in days if midnight(day) < period.until]
    ends = [period.since, *(min(midnight(day + timedelta(days=1)), period.until) for day in days)]
    found = seals_at(ends)
    rows: list[Row] = []
    for (before, last), group in groupby(zip(pairwise(found), days, strict=True), key=lambda pair: pair[0]):
        alike = [day.isoformat() for _, day in group]
        # The days before the trail's first seal have no row, and days without an event have one together.
        if last.number:
            rows.append(_day(alike[0] if len(alike) == 1 else f"{alike[0]} to {alike[-1]}", before, last))
    return Contents([*rows, *_waiting(period), *_checks(period)], _SCOPE, _NOTES)


def _waiting(period: Period) -> list[Row]:
    """A row about events of the period that have no seal yet."""
    try:
        end = end_seal(period.until)
    except (ValueError, TypeError):
        return [_row(what="End of the period", result=_DAMAGED, remark=_VERIFY)]
    if end.final:
        return []
    through = end.seal.statement.through if end.seal else None
    remark = "Events of after this time have no seal." if through else "No event has a seal."
    return [_row(what="Not sealed yet", result="waiting", through=through, remark=remark)]


def _day(day: str, before: SealAt, last: SealAt) -> Row:
    """The seals whose time has ended on a day: those after `before`, up to `last`."""
    seals = last.number - before.number
    if last.seal is None or (before.number and before.seal is None):
        number = last.number if last.seal is None else before.number
        return _row(day, "Seals", _DAMAGED, remark=f"Seal {number} is {_DAMAGED}. {_VERIFY}")
    if not seals:
        return _row(day, "Seals", "no event", events=0)
    statement = last.seal.statement
    return _row(
        day,
        "Seals",
        "sealed",
        seals=f"{before.number + 1} to {last.number}" if seals > 1 else str(last.number),
        events=statement.size - (before.seal.statement.size if before.seal else 0),
        through=statement.through,
        digest=statement.digest,
    )


def _checks(period: Period) -> list[Row]:
    """The checks of the period. Without one, the last one before it."""
    records = events_of(period, [Action.AUDIT_VERIFIED])
    what = "Check of {}"
    if not records:
        before = clock.parse_timestamp(period.since)
        records = audit_search(target=CHECKED, action=Action.AUDIT_VERIFIED, last_day=before, limit=1).records
        what = "Last check of {}, before the period"
    if not records:
        return [_row(what="Check", result="none", remark="audit_verify has not run up to the end of the period.")]
    details = [dict(record.detail or {}) for record in records]
    numbers = {int(detail["seal"]) for detail in details if detail.get("seal")}
    digests = seal_digests(sorted(numbers))
    return [_check(what, record, detail, digests) for record, detail in zip(records, details, strict=True)]


def _check(what: str, record: Any, detail: dict[str, Any], digests: dict[int, str | None]) -> Row:
    """A check as it was recorded. A remark says if the seal up to which it has checked is another one now."""
    remark = detail.get("first_finding")
    if detail.get("seal") and digests[int(detail["seal"])] != detail.get("digest"):
        remark = f"{remark or ''} Now, seal {detail['seal']} is another one.".strip()
    return _row(
        str(record.at),
        what.format(detail.get("checked", "the trail")),
        "something was changed" if record.result == "changed" else "as it was sealed",
        seals=f"up to {detail['seal']}" if detail.get("seal") else None,
        events=detail.get("records"),
        through=detail.get("through"),
        digest=detail.get("digest"),
        remark=remark,
    )


def _row(
    time: str | None = None,
    what: str = "",
    result: str = "",
    *,
    seals: str | None = None,
    events: int | None = None,
    through: str | None = None,
    digest: str | None = None,
    remark: str | None = None,
) -> Row:
    return (time, what, result, seals, events, through, digest, remark)


INTEGRITY = Kind(
    "integrity",
    "Integrity of the trail",
    "What was sealed on each day, and what checks of the trail have found.",
    columns("Day or time", "What", "Result", "Seals", "Events", "Up to", "Digest", "Remark"),
    _integrity,
)
