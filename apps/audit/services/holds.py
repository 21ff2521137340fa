"""Legal holds: copies of the events under a hold stay when retention deletes the events themselves.

An event's time of expiry is written with it, and nothing may change an event. So a hold does not stop the expiry: the
sweep copies what would expire, days before it does. See docs/decisions/0042.
"""

import json
import time
import zlib
from contextlib import suppress
from datetime import date, datetime, timedelta

from apps.audit.actions import Action
from apps.audit.formats import Format
from apps.audit.models import HeldEvents, Hold, held_partition
from apps.audit.policies import hold_require
from apps.audit.selectors import entry_before, entry_from
from apps.audit.selectors.holds import PACK_EVENTS, hold_get, hold_list, pack_lines
from apps.audit.selectors.trail import BEGINNING, TrailSearch, trail_page
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# Events are copied when they are so old: none can be written later, whatever the clocks of machines are.
_AFTER = timedelta(hours=1)
MOST_HOLDS = 50
_REASON = 200


def hold_place(
    *,
    actor: Actor,
    reason: str,
    search: TrailSearch = TrailSearch(),  # noqa: B008 — it is immutable
    first: date | datetime | None = None,
    last: date | datetime | None = None,
) -> Hold:
    """Hold the events of the search, from `first` to `last`, which may come later; without them all events.

    Raises Forbidden without the permission audit.hold, InvalidInput (field "reason"), Conflict ``too_many_holds``.
    """
    hold_require(actor)
    if not reason.strip() or len(reason) > _REASON:
        raise InvalidInput.field("reason", f"must have 1 to {_REASON} characters")
    if sum(not hold.released_at for hold in hold_list()) >= MOST_HOLDS:
        raise Conflict(
            f"There are {MOST_HOLDS} legal holds, and more are not possible. Release one, or place a wider one.",
            code=ErrorCode.TOO_MANY_HOLDS,
        )
    since, until = entry_from(first) if first else None, entry_before(last) if last else None
    hold = Hold(
        Hold.KIND,
        new_id(),
        reason=reason.strip(),
        of_actor=search.actor,
        of_target=search.target,
        of_action=search.action,
        since=since,
        until=until,
        placed_by=actor.name,
        placed_at=clock.timestamp(clock.now()),
        place=since or BEGINNING,
    )
    tx = Transaction()
    tx.put("hold", hold)
    audit_add(
        tx,
        actor=actor,
        action=Action.AUDIT_HOLD_PLACED,
        target=f"hold:{hold.hold_id}",
        detail={
            "reason": hold.reason,
            "of_actor": search.actor,
            "of_target": search.target,
            "of_action": search.action,
            "since": since,
            "until": until,
        },
    )
    tx.commit()
    return hold


def hold_release(*, actor: Actor, hold_id: str) -> Hold:
    """End the hold: nothing more is copied. The copies stay. Releasing it again changes nothing.

    Raises Forbidden without the permission audit.hold, and NotFound.
    """
    hold_require(actor)
    hold = hold_get(hold_id)
    if hold.released_at:
        return hold
    tx = Transaction()
    tx.update(
        "hold",
        hold,
        actions=[Hold.released_by.set(actor.name), Hold.released_at.set(clock.timestamp(clock.now()))],
        condition=Hold.placed_at.exists() & Hold.released_at.does_not_exist(),
    )
    audit_add(
        tx,
        actor=actor,
        action=Action.AUDIT_HOLD_RELEASED,
        target=f"hold:{hold_id}",
        detail={"reason": str(hold.reason), "copies": int(hold.copies)},
    )
    # If it fails, another request has released it at the same time.
    with suppress(TransactionFailed):
        tx.commit()
    return hold_get(hold_id)


def holds_copy(*, seconds: float) -> int:
    """Copy the events under a hold that will expire. Returns how many were copied. It stops after `seconds`.

    Without a hold it costs one read. An event is copied an hour after it was recorded, and what was before the hold in
    the next minutes; both are long before it expires.
    """
    ends_at = time.monotonic() + seconds
    copied = 0
    for hold in hold_list():
        while not hold.released_at and time.monotonic() < ends_at:
            count, is_done = _copy_next(hold)
            copied += count
            if is_done:
                break
    return copied


def _copy_next(hold: Hold) -> tuple[int, bool]:
    """Copy the next events of the hold. Returns how many, and whether there are no more for now."""
    settled = clock.timestamp(clock.now() - _AFTER)
    until = min(str(hold.until), settled) if hold.until else settled
    place = str(hold.place)
    if place >= until:
        return 0, True
    search = TrailSearch(hold.of_actor, hold.of_target, hold.of_action)
    page = trail_page(search, after=place, until=until, limit=PACK_EVENTS)
    expiring = [record for record in page.records if record.expires_at]
    following, count = page.next, len(expiring)
    if expiring:
        pack = HeldEvents(held_partition(str(hold.hold_id)), expiring[0].entry)
        pack.lines = zlib.compress("".join(map(Format().line, expiring)).encode())
        try:
            pack.save(condition=HeldEvents.day.does_not_exist())
        except ConditionFailed:
            # The place could not be noted the last time, or another process copies the same. Since then, there may be
            # more events than the pack has: it goes on behind those.
            lines = pack_lines(str(hold.hold_id), expiring[0].entry)
            if not lines:
                return 0, True
            following, count = str(json.loads(lines[-1])["entry"]), len(lines)
    try:
        hold.update(
            actions=[Hold.place.set(following or until), Hold.copies.add(count)],
            condition=(Hold.place == place) & Hold.released_at.does_not_exist(),
        )
    except ConditionFailed:
        return 0, True
    return count, following is None
