"""Reading the audit trail."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.models import AuditRecord, is_crowd, principal_of, shard_keys
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, Partition, place_decode
from controlplane.nosql.query import Lookup, RecordQuery

# How many days a list covers that has no first day and that no index narrows.
LISTED_DAYS = 31
# The actors that a search accepts, as a pattern.
ACTOR = "(?:(?:user|token|agent|schedule|webhook):[0-9A-Za-z_.-]{1,80}|system)"
# No version of this product has recorded an event before this day.
EARLIEST = date(2026, 1, 1)

# An entry has a # after its time, and a tilde sorts after all entries of its day.
_AFTER_DAY = "~"


def _target(asked: Mapping[str, Any]) -> list[Partition] | None:
    return [_partition(asked["target"])] if "target" in asked else None


def _principal(asked: Mapping[str, Any]) -> list[Partition] | None:
    """None for a crowd's events of one action: the action narrows them more."""
    principal = asked.get("principal")
    return None if principal is None or ("action" in asked and is_crowd(principal)) else [_partition(principal)]


def _action(asked: Mapping[str, Any]) -> list[Partition] | None:
    return [shard_keys(asked["action"])] if "action" in asked else None


def _days(asked: Mapping[str, Any]) -> Iterator[Partition]:
    """The days from the last one back to the first one. The future has no events."""
    today = clock.now().date()
    last = min(_day(asked.get("entry__lte")) or today, today)
    first = _day(asked.get("entry__gte")) or last - timedelta(days=min(LISTED_DAYS, last.toordinal()) - 1)
    for number in range(last.toordinal(), max(first, EARLIEST).toordinal() - 1, -1):
        yield shard_keys(date.fromordinal(number).isoformat())


def _day(entry: str | None) -> date | None:
    return date.fromisoformat(entry[:10]) if entry else None


def _partition(key: str) -> Partition:
    return shard_keys(key) if is_crowd(key) else key


_FILTERS = frozenset({"action", "actor_id", "principal", "target"})
BY_TARGET = Listing(AuditRecord, AuditRecord.by_target, _target, filters=_FILTERS, descending=True)
BY_ACTOR = Listing(AuditRecord, AuditRecord.by_actor, _principal, filters=_FILTERS, descending=True)
BY_ACTION = Listing(AuditRecord, AuditRecord.by_action, _action, filters=_FILTERS, descending=True)
BY_DAY = Listing(AuditRecord, None, _days, descending=True)

# In the order of how much they narrow a search.
LISTINGS = (BY_TARGET, BY_ACTOR, BY_ACTION, BY_DAY)


@frozen
class AuditPage:
    """Audit events, newest first. `next_cursor` continues the list and is None on its last page."""

    records: list[AuditRecord]
    next_cursor: str | None


def audit_list(*, day: str, limit: int = 50, cursor: str | None = None) -> AuditPage:
    """The events of a day (``YYYY-MM-DD``, UTC), newest first, read consistently.

    Raises InvalidInput for a cursor of another list.
    """
    scope = f"audit:{day}"
    page = BY_DAY.page([shard_keys(day)], limit=limit, start=place_decode(scope, cursor))
    return AuditPage(page.records, page.next_cursor(scope))


def audit_about(
    targets: Sequence[str], *, detail: Mapping[str, str], limit: int = 50, cursor: str | None = None
) -> AuditPage:
    """The events of several targets (``kind:id``) together, newest first, whose detail has all members of `detail`.

    One query of the index for each target, which may lag by moments. A page may be shorter than `limit` and still have
    a next one. Raises InvalidInput for a cursor of another list.
    """
    shards = [key for target in targets for key in (shard_keys(target) if is_crowd(target) else (target,))]
    scope = f"audit about {targets} {sorted(detail.items())}"
    page = BY_TARGET.page(
        [tuple(shards)],
        limit=limit,
        keep=lambda record: detail.items() <= (record.detail or {}).items(),
        start=place_decode(scope, cursor),
    )
    return AuditPage(page.records, page.next_cursor(scope))


def audit_search(
    *,
    actor: str | None = None,
    target: str | None = None,
    action: Action | None = None,
    first_day: date | datetime | None = None,
    last_day: date | datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> AuditPage:
    """The events that match all arguments, newest first. A page may be shorter than `limit` and still have a next one.

    `actor` (``kind:id`` or ``system``) includes the API tokens of a user; `target` is ``kind:id``. One index narrows
    the search: by the target, else by the actor, else by the action; the page is filtered by the rest. An index may lag
    by moments, and has the events of all days. Without these three, the search covers the days from `first_day`
    (LISTED_DAYS by default) to `last_day`, and is consistent. A moment in the place of a day limits the search to the
    events from this moment on, or before it. Raises InvalidInput for a cursor of another list.
    """
    conditions = audit_conditions(actor=actor, target=target, action=action, first_day=first_day, last_day=last_day)
    scope = f"audit {sorted(conditions.items())}"
    lookups = [Lookup.parse(name, value) for name, value in conditions.items()]
    query = RecordQuery(AuditRecord, lookups, {}, listings=LISTINGS)
    page = query.page(limit=limit, start=place_decode(scope, cursor))
    return AuditPage(page.records, page.next_cursor(scope))


def actor_meant(text: str, find: Callable[[str], Sequence[str]]) -> str:
    """The actor (``kind:id`` or ``system``) that people mean by a text, which may be one already.

    `find` gives the actors of an e-mail address, of a name or of an id. Raises InvalidInput (field "actor").
    """
    if re.fullmatch(ACTOR, text):
        return text
    found = find(text)
    if not found:
        raise InvalidInput.field(
            "actor",
            "No user has this e-mail address, and no agent has this name. "
            "Search for deleted ones by their ids: user:<id> or agent:<id>.",
        )
    if len(found) > 1:
        raise InvalidInput.field("actor", f"Several have this name. Search for one of {', '.join(found)}.")
    return found[0]


def audit_conditions(
    *,
    actor: str | None = None,
    target: str | None = None,
    action: str | None = None,
    first_day: date | datetime | None = None,
    last_day: date | datetime | None = None,
) -> dict[str, str]:
    """A search as the conditions of a query (``filter(**conditions)``)."""
    asked = {"target": target, "action": action}
    if first_day:
        asked["entry__gte"] = entry_from(first_day)
    if last_day:
        asked["entry__lte"] = entry_before(last_day)
    kind, _, actor_id = (actor or "").partition(":")
    if kind == "token":
        asked |= {"principal": _token_owner(actor_id), "actor_id": actor_id}
    elif actor:
        asked["principal"] = principal_of(SYSTEM.kind, SYSTEM.id) if actor == SYSTEM.kind else actor
    return {name: value for name, value in asked.items() if value is not None}


def entry_from(first: date | datetime) -> str:
    """The entries of this day or moment and of later ones sort after this text."""
    return clock.timestamp(first) if isinstance(first, datetime) else first.isoformat()


def entry_before(last: date | datetime) -> str:
    """The entries up to the end of this day, or before this moment, sort before this text."""
    return clock.timestamp(last) if isinstance(last, datetime) else f"{last.isoformat()}{_AFTER_DAY}"


def _token_owner(token_id: str) -> str:
    """The principal under which the events of an API token are found. The trail knows it of revoked tokens too."""
    created = BY_TARGET.page([f"api_token:{token_id}"], limit=1).records
    owner = (created[0].detail or {}).get("owner") if created else None
    return f"user:{owner}" if owner else f"token:{token_id}"
