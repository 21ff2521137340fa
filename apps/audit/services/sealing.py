"""Sealing the trail: each minute's events, once the minute is certainly over. See docs/decisions/0041.

Only the row of the next seal decides: it is written once. So any number of processes may seal at the same time, and
each may end at any point.

A seal vouches for all seals before it. So the last one is checked before another continues it, and one that object
storage has already is put back into the table: no number is signed twice.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.core.cache import cache

from apps.audit.canonical import Item, canonical_record, leaf_hash
from apps.audit.merkle import Edge, consistency_proof
from apps.audit.models import SealKey, SealLeaves, SealRecord, seal_place
from apps.audit.seals import (
    NO_DIGEST,
    Leaves,
    Seal,
    SealError,
    Statement,
    chain_check,
    edge_check,
    hashes_join,
    key_digest,
    key_pem,
    leaves_check,
    signature_check,
)
from apps.audit.seals.checking import Version
from apps.audit.seals.copies import copy_find, copy_name, copy_storage, copy_write, last_copied
from apps.audit.selectors.seals import (
    event_item,
    events_between,
    leaves_find,
    leaves_from,
    lines_pack,
    seal_find,
    seal_head,
    seals_from,
    trusted_keys,
)
from apps.audit.services.day_events import day_events_add
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.frozen import frozen
from controlplane.lib.signing_keys import PublicKey, Purpose, signing_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# An event has the time at which its transaction was made. On Lambda this is written within 29 s, elsewhere within 72 s:
# so long all attempts at a transaction take. The rest is for clocks that differ.
DELAY = timedelta(minutes=2)
# DynamoDB refuses requests whose time is off by more than 15 minutes. So of two clocks one may be 30 minutes behind.
LATE = timedelta(minutes=45)
# The second look waits until there is this much to look at, so that it costs as few calls as possible.
_LOOK_EVERY = timedelta(minutes=15)
# The first seal begins with the first day after so many days without events.
_EMPTY_DAYS = 7
# So long the trail may be unsealed, or a seal without its copy, before the sweep fails for it.
OVERDUE = timedelta(minutes=15)

# An item takes 400 KB, and a leaf less than 90 bytes.
MAX_LEAVES = 4_000

_LABEL = "seal"
# The keys of Django's cache, which is the process's own.
_MEMORY, _COPIED = "audit-seal-memory", "audit-seals-copied"


@dataclass
class _Memory:
    """What this process knows, which only saves reads. `head` is the number of the last seal; None if it is not known.

    There is no event from that seal to before `empty_to`, as it was at `emptied_at`. The second look has found nothing
    up to the seal `settled`, last at `looked_at`.
    """

    head: int | None = None
    empty_to: str = ""
    emptied_at: datetime | None = None
    settled: int = 0
    looked_at: datetime | None = None


def audit_seal(*, seconds: float) -> int:
    """Seal all events up to two minutes ago. Returns how many it has sealed.

    It stops after `seconds`; what is left is sealed next time. Raises Unavailable when DynamoDB fails, when an event
    has waited for more than 15 minutes because KMS fails, and when the last seal is not what was sealed.
    """
    ends_at = time.monotonic() + seconds
    memory: _Memory = cache.get(_MEMORY) or _Memory()
    sealed = 0
    while True:
        try:
            count = _seal_next(memory)
        except ValueError as error:
            raise _not_as_sealed(error) from error
        cache.set(_MEMORY, memory, None)
        sealed += count or 0
        is_done = count is None or (count < MAX_LEAVES and _is_recent(memory.looked_at, clock.now()))
        if is_done or time.monotonic() >= ends_at:
            return sealed


def _seal_next(memory: _Memory) -> int | None:
    """Make the next seal, if there is something to seal. Returns the number of its events; None if KMS fails."""
    now = clock.now()
    through = clock.timestamp((now - DELAY).replace(second=0, microsecond=0))
    if _is_known_empty(memory, now, through):
        return 0
    head = seal_head()
    since = head.statement.through if head else _beginning(through)
    if head is not None and since > clock.timestamp(now + LATE):
        raise SealError(f"Seal {head.number} ends in the future: it was changed, or the clock of a machine is wrong.")
    found = list(islice(events_between(since, through), MAX_LEAVES + 1)) if since < through else []
    if len(found) > MAX_LEAVES:
        through = _entry(found.pop())
    late, settled = _late_events(memory, head, now, room=MAX_LEAVES - len(found))
    if not found and not late:
        memory.head, memory.empty_to, memory.emptied_at = head.number if head else 0, through, now
        return 0
    # The next seal has what is known of this one.
    memory.head = None
    leaves = Leaves()
    for item in (*found, *late):
        leaves.entries.append(_entry(item))
        leaves.hashes.append(leaf_hash(canonical_record(item)))
        leaves.expiries.append(int(item.get("expires_at", {}).get("N", 0)))
    try:
        keys = trusted_keys()
        if head is not None:
            signature_check(head, keys)
            edge_check(head)
        if (lost := _lost_seal(head, keys)) is not None:
            _seal_write(*lost, key=keys[lost[0].statement.key])
            # There may be more of them, and this sweep goes on.
            memory.looked_at = None
            return len(lost[1].entries)
        seal, key = _signed(head, leaves, _Span(since, max(since, through), len(late), settled))
    except Unavailable:
        if now - clock.parse_timestamp(leaves.entries[0].partition("#")[0]) > OVERDUE:
            raise
        logger.warning("The audit trail could not be sealed; the next sweep tries again.", exc_info=True)
        return None
    is_known = head is not None and head.statement.key == seal.statement.key
    _seal_write(seal, leaves, key=None if is_known else key, counted=[*found, *late])
    return len(leaves.entries)


def _not_as_sealed(error: ValueError) -> Unavailable:
    return Unavailable(f"The audit trail is not as it was sealed. {error} Run manage.py audit_verify.")


def _lost_seal(head: Seal | None, keys: Mapping[str, PublicKey]) -> Version | None:
    """The seal after the last one, if only object storage has it: its row was deleted, or was lost in a crash.

    Raises SealError if it continues another one than the table has.
    """
    try:
        copy = copy_find(head.number + 1 if head else 1)
        if copy is None:
            return None
        signature_check(copy[0], keys)
    except (OSError, Unavailable, SealError):
        # Without object storage sealing goes on, and a check finds two seals of a number. A file that is not signed is
        # no seal.
        logger.warning("A copy of a seal could not be read or is none; sealing goes on.", exc_info=True)
        return None
    chain_check(copy[0], head, keys)
    leaves_check(copy[0], head, copy[1])
    logger.error("Seal %d was gone, and is put back from object storage. Run manage.py audit_verify.", copy[0].number)
    return copy


def _is_known_empty(memory: _Memory, now: datetime, through: str) -> bool:
    """Whether there is still nothing to seal, for the calls of one range only: a call for each shard of a day."""
    if memory.head is None or not _is_recent(memory.emptied_at, now) or not _is_recent(memory.looked_at, now):
        return False
    if through > memory.empty_to:
        if next(events_between(memory.empty_to, through, keys_only=True), None) is not None:
            return False
        memory.empty_to = through
    return True


def _is_recent(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and timedelta() <= now - moment < _LOOK_EVERY


def _beginning(through: str) -> str:
    """Where the first seal begins: at the first day of the last days in a row that have events, or a gap of a week."""
    day = first = clock.parse_timestamp(through).replace(hour=0, minute=0)
    while first - day <= timedelta(days=_EMPTY_DAYS):
        if next(events_between(clock.timestamp(day), f"{day:%Y-%m-%d}~", keys_only=True), None) is not None:
            first = day
        day -= timedelta(days=1)
    return clock.timestamp(first)


def _late_events(memory: _Memory, head: Seal | None, now: datetime, *, room: int) -> tuple[list[Item], int]:
    """Late events in what is sealed, at most `room`, and up to which seal none is left when they are sealed, too.

    Each seal is looked at once more, when its time has been over for 45 minutes.
    """
    if head is None:
        memory.looked_at = now
        return [], 0
    settled = max(head.statement.settled, memory.settled if memory.head == head.number else 0)
    if _is_recent(memory.looked_at, now):
        return [], settled
    seals, is_all = _seals_over(settled + 1, head.number, clock.timestamp(now - LATE))
    missing = _unsealed(seals)[: room + 1]
    if seals and len(missing) <= room:
        settled = seals[-1].number
    if not missing:
        memory.head, memory.settled = head.number, settled
        memory.looked_at = now if is_all else None
    return [item for entry in missing[:room] if (item := event_item(entry)) is not None], settled


def _seals_over(first: int, last: int, over: str) -> tuple[list[Seal], bool]:
    """The seals between these numbers whose time ended before `over`, and whether these are all.

    There are as many as have no more events than a seal may have, and at least one.
    """
    seals: list[Seal] = []
    events = 0
    for seal in seals_from(first, last):
        if seal.statement.through > over:
            break
        events += seal.statement.records
        if seals and events > MAX_LEAVES:
            return seals, False
        seals.append(seal)
    return seals, True


def _unsealed(seals: Sequence[Seal]) -> list[str]:
    """The entries of events in the time of these seals, which follow each other, that are in none of them."""
    if not seals:
        return []
    first, last = seals[0], seals[-1]
    known = {entry for _, leaves in leaves_from(first.number, last.number) for entry in leaves.entries}
    span = events_between(first.statement.since, last.statement.through, keys_only=True)
    return [entry for entry in map(_entry, span) if entry not in known]


@frozen
class _Span:
    """What a seal covers: see `Statement`."""

    since: str
    through: str
    late: int
    settled: int


def _signed(head: Seal | None, leaves: Leaves, span: _Span) -> tuple[Seal, PublicKey]:
    """The seal after `head`, and the key that verifies it. Raises Unavailable when KMS does not answer."""
    before = head.edge if head else Edge()
    edge = before.grown(leaves.hashes)
    key = signing_key(Purpose.AUDIT)
    statement = Statement(
        number=head.number + 1 if head else 1,
        since=span.since,
        through=span.through,
        records=len(leaves.hashes),
        late=span.late,
        size=edge.size,
        root=edge.root.hex(),
        index=leaves.index,
        previous=head.statement.digest if head else NO_DIGEST,
        settled=span.settled,
        sealed_at=clock.timestamp(clock.now()),
        key=key_digest(key.public_key),
    )
    proof = tuple(consistency_proof(before, leaves.hashes))
    return Seal(statement, key.sign(statement.signed), edge, proof), key.public_key


def _seal_write(seal: Seal, leaves: Leaves, *, key: PublicKey | None, counted: Sequence[Item] = ()) -> None:
    """Write the seal, the key if it is given, and count the events that are to be counted by their days.

    If another process has written this number, nothing is written.
    """
    tx = Transaction()
    record = SealRecord(SealRecord.PART, seal_place(seal.number), statement=seal.statement.text)
    record.signature, record.edge = seal.signature, hashes_join(seal.edge.roots)
    record.consistency = hashes_join(seal.consistency) or None
    tx.put(_LABEL, record)
    row = SealLeaves(SealLeaves.PART, seal_place(seal.number))
    row.entries, row.hashes = lines_pack(leaves.lines), hashes_join(leaves.hashes)
    tx.put("leaves", row)
    if key is not None:
        # It may be there: a process that was started before a rotation goes on with the older key.
        pem = key_pem(key)
        is_same = SealKey.place.does_not_exist() | (SealKey.pem == pem)
        tx.put("key", SealKey(SealKey.PART, seal.statement.key, pem=pem), condition=is_same)
    day_events_add(tx, counted)
    try:
        tx.commit()
    except TransactionFailed as error:
        if _LABEL not in error.failed:
            raise
        logger.info("Another process has made seal %d.", seal.number)


# --- copies in object storage ---------------------------------------------------------------------------------------


def audit_seals_copy(*, seconds: float) -> int:
    """Copy the seals to object storage that it does not have yet, in their order. Returns how many it has copied.

    It stops after `seconds`; the rest is copied next time. Raises Unavailable when DynamoDB fails, when a seal has
    waited for more than 15 minutes because object storage fails, and when the last copy is of another seal.
    """
    ends_at = time.monotonic() + seconds
    copied: tuple[int, str | None] | None = cache.get(_COPIED)
    memory: _Memory = cache.get(_MEMORY) or _Memory()
    if copied is not None and copied[0] == memory.head:
        return 0
    head = seal_head()
    if head is None or (copied is not None and copied[0] == head.number):
        return 0
    waiting = head
    count = 0
    try:
        last, digest = copied or _last_copy(head)
        for number in range(last + 1, head.number + 1):
            waiting = seal_find(number) or head
            if digest is not None and waiting.statement.previous != digest:
                raise SealError(f"Object storage has another seal {number - 1} than the table.")
            copy_storage().save_stream(copy_name(number), [copy_write(waiting, leaves_find(number))])
            count, digest = count + 1, waiting.statement.digest
            cache.set(_COPIED, (number, digest), None)
            if time.monotonic() >= ends_at:
                break
    except ValueError as error:
        raise _not_as_sealed(error) from error
    except (OSError, Unavailable) as error:
        if clock.now() - clock.parse_timestamp(waiting.statement.sealed_at) > OVERDUE:
            raise Unavailable("Object storage does not take the seals of the audit trail. Try again.") from error
        logger.warning("A seal could not be copied to object storage; the next sweep tries again.", exc_info=True)
    return count


def _last_copy(head: Seal) -> tuple[int, str | None]:
    """The number of the last seal that has a copy, and the digest of that copy; None if it is none of a seal."""
    number = last_copied(head.number)
    copy = copy_find(number) if number else None
    return number, copy[0].statement.digest if copy else None


def _entry(item: Item) -> str:
    return str(item["entry"]["S"])
