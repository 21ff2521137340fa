"""The report "Rotation compliance": which secrets are rotated as their schedules say, and which are not rotated."""

from collections import Counter
from collections.abc import Callable, Mapping, Set
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.dashboard.selectors.reports import (
    MOST_EVENTS,
    READ_AT_ONCE,
    Contents,
    Kind,
    Period,
    Row,
    by_day,
    changed_to,
    columns,
    days_between,
    events_of,
    identifier,
    in_words,
    left_out,
)
from apps.secrets.selectors import secret_list
from apps.secrets.selectors.rotations import plans_find, rotations_failed, schedule_next
from controlplane.lib import clock

# A sweep begins what is due within minutes.
_GRACE = timedelta(hours=1)
_NOTHING = "–"
# The states in the order of the rows.
_OVERDUE, _NONE, _BY_HAND, _IN_TIME, _DELETED = "overdue", "no rotation", "by hand only", "in time", "deleted"
_STATES = (_OVERDUE, _NONE, _BY_HAND, _IN_TIME, _DELETED)
_LISTED_AT_ONCE = 200
_NOTES = (
    "“Value since” is when the value that was current at the end of the period became that, by a user or a rotation.",
    "“Last rotation” and “Next” are those at the end of the period.",
    "A secret is overdue when its schedule had asked for a rotation an hour before the end of the period or earlier.",
)


def _rotations(period: Period) -> Contents:
    secrets = _secrets(period)
    existing = {secret["id"] for secret in secrets if not secret["ended_at"]}
    rotated, seen_from = _last_of(Action.SECRET_VERSION_ACTIVATED, period, existing, lambda _: True)
    # A rotation's version counts when it is activated.
    changed, changes_from = _last_of(
        Action.SECRET_VERSION_ADDED, period, existing, lambda detail: not detail.get("rotation")
    )
    horizon = max(seen_from, changes_from)
    ends = events_of(period, (Action.SECRET_ROTATION_COMPLETED, Action.SECRET_ROTATION_FAILED))
    counts = Counter((identifier(record), record.action) for record in ends)
    failures = {identifier(record): record for record in ends if record.action == Action.SECRET_ROTATION_FAILED}
    plans, ringing = plans_find(existing), rotations_failed()
    rows: list[Row] = []
    for secret in secrets:
        key = secret["id"]
        last = _since(secret, rotated.get(key))
        since = max(secret["created_at"], last or "", _since(secret, changed.get(key)) or "")
        due = schedule_next(secret["schedule"], since) if secret["schedule"] else None
        plan = plans.get(key)
        rows.append(
            (
                *(key, _state(secret, due, period), secret["rotator"], secret["schedule"]),
                # Above the limit of events, older changes are not known.
                f"before {horizon[:10]}" if since < horizon else since,
                *(days_between(max(since, horizon), period.until), last, due),
                _ends(counts[key, Action.SECRET_ROTATION_COMPLETED], counts[key, Action.SECRET_ROTATION_FAILED]),
                _failure(failures.get(key)),
                str(plan.due_at) if plan is not None and plan.due_at else None,
                "rings" if key in ringing else None,
            )
        )
    # A deleted one's state has its time behind it.
    rows.sort(key=lambda row: (next(i for i, state in enumerate(_STATES) if row[1].startswith(state)), row[0]))
    return Contents(
        rows,
        "Every secret that existed at some time of the period",
        (*_NOTES, *_unknown(period, secrets)),
        chart="Rotations that ended, by day",
        days=by_day(
            period,
            completed=(str(record.at) for record in ends if record.action == Action.SECRET_ROTATION_COMPLETED),
            failed=(str(record.at) for record in ends if record.action == Action.SECRET_ROTATION_FAILED),
        ),
        outcomes=("completed", "failed"),
    )


def _secrets(period: Period) -> list[dict[str, Any]]:
    """The secrets that existed in the period, with how they were rotated at its end. One may come twice, made anew."""
    secrets: list[dict[str, Any]] = []
    existing: dict[str, dict[str, Any]] = {}
    actions = (Action.SECRET_CREATED, Action.SECRET_ROTATION_CONFIGURED, Action.SECRET_DELETED)
    for record in events_of(period, actions, from_beginning=True):
        key = identifier(record)
        if record.action == Action.SECRET_CREATED:
            existing[key] = {
                "id": key,
                "created_at": str(record.at),
                "ended_at": "",
                "rotator": None,
                "schedule": None,
            }
            secrets.append(existing[key])
        elif key in existing and record.action == Action.SECRET_DELETED:
            existing.pop(key)["ended_at"] = str(record.at)
        elif key in existing:
            detail = dict(record.detail or {})
            rotator = changed_to(detail.get("rotator"))
            existing[key]["rotator"] = None if rotator == _NOTHING else rotator
            existing[key]["schedule"] = detail.get("schedule")
    return [secret for secret in secrets if not secret["ended_at"] or secret["ended_at"] >= period.since]


def _last_of(
    action: Action, period: Period, wanted: Set[str], fits: Callable[[Mapping[str, Any]], bool]
) -> tuple[dict[str, str], str]:
    """When the last fitting event of each secret was, before the end of the period; and since when events were read.

    It reads from the newest event on until all the wanted secrets are found, and MOST_EVENTS at most.
    """
    found: dict[str, str] = {}
    read, cursor = 0, None
    end = clock.parse_timestamp(period.until)
    while True:
        page = audit_search(action=action, last_day=end, limit=READ_AT_ONCE, cursor=cursor)
        for record in page.records:
            if fits(record.detail or {}):
                found.setdefault(identifier(record), str(record.at))
        read, cursor = read + len(page.records), page.next_cursor
        if cursor is None or wanted <= found.keys():
            return found, ""
        if read >= MOST_EVENTS:
            return found, str(page.records[-1].at)


def _since(secret: Mapping[str, Any], at: str | None) -> str | None:
    """The time, if this secret existed then and not an earlier one of the same id."""
    return at if at and at >= secret["created_at"] and (not secret["ended_at"] or at <= secret["ended_at"]) else None


def _state(secret: Mapping[str, Any], due: str | None, period: Period) -> str:
    if secret["ended_at"]:
        return f"{_DELETED} {in_words(secret['ended_at'])}"
    if not secret["rotator"]:
        return _NONE
    if due is None:
        return _BY_HAND
    return _OVERDUE if clock.parse_timestamp(due) + _GRACE <= clock.parse_timestamp(period.until) else _IN_TIME


def _ends(completed: int, failed: int) -> str | None:
    return f"{completed} completed, {failed} failed" if completed or failed else None


def _failure(record: Any) -> str | None:
    if record is None:
        return None
    reason = dict(record.detail or {}).get("reason")
    return f"{in_words(str(record.at))}{f': {reason}' if reason else ''}"


def _unknown(period: Period, secrets: list[dict[str, Any]]) -> tuple[str, ...]:
    """A note about secrets of today's records that existed in the period and are not among these."""
    known = {secret["id"] for secret in secrets}
    unknown: set[str] = set()
    cursor = None
    while True:
        page = secret_list(limit=_LISTED_AT_ONCE, cursor=cursor)
        unknown |= {str(secret.secret_id) for secret in page.secrets if secret.created_at < period.until} - known
        cursor = page.next_cursor
        if cursor is None:
            return left_out("secrets", unknown)


ROTATIONS = Kind(
    "rotations",
    "Rotation compliance",
    "Which secrets are rotated as their schedules say, which are overdue, and which are not rotated at all.",
    columns(
        *("Secret", "State", "Rotator", "Schedule", "Value since", "Age in days", "Last rotation", "Next"),
        *("In the period", "Last failure"),
        today=("Due", "Alarm"),
    ),
    _rotations,
)
