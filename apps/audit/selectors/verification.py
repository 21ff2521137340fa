"""Checks the trail in the database: every seal, and every event against its leaf."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import chain

from apps.audit.canonical import Item, canonical_record, leaf_hash
from apps.audit.models import entry_partition
from apps.audit.seals import Seal, SealError, edge_check, signature_check
from apps.audit.seals.checking import Checker, Event, Finding, Tampering, Verification, Version
from apps.audit.seals.copies import copy_find, last_copied
from apps.audit.selectors.seals import (
    event_item,
    events_of_days,
    first_seal,
    seal_find,
    seal_head,
    seal_keys,
    versions_from,
)
from controlplane.lib import clock
from controlplane.lib.signing_keys import PublicKey


def trail_verify(
    *,
    trusted: Mapping[str, PublicKey],
    first: str | None = None,
    last: str | None = None,
    earliest: date | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Verification:
    """Check the seals that have a part from the time `first` to `last`, and their events; all of them by default.

    `trusted` are the public keys, by their digests, that no one who can write the table has chosen. The table has the
    keys before a rotation: their seals count if a later seal, which leads back to them, is signed by a trusted key.
    With `earliest`, the days from then to the first seal must have no event. `progress` gets the number of events so
    far, after each seal. Raises Unavailable or OSError if it could not check.

    Copies in object storage take the place of seals that are not what was sealed. If the table's seals are right in
    themselves, but the copies are signed, too, and say something else, the copies count: they were written once.
    """
    keys = {**seal_keys(), **trusted}
    replaced = _replaced(keys)
    number = _first_number(first) if first else 1
    try:
        before = _before(number, keys)
    except SealError as error:
        return Verification([Finding(Tampering.SEAL, str(error), seal=number - 1)], None, 0, 0)
    versions = versions_from(number)
    opening = next(versions, None)
    begin = _begin(before, opening, keys)
    checker = Checker(keys, before, _events(begin), copies=copy_find, find=_event, now=clock.epoch())
    checked = before
    for found_number, stored in chain([opening], versions) if opening else ():
        if found_number in replaced:
            stored = SealError(f"Seal {found_number} was replaced by another one.")
        if not checker.seal_take(found_number, stored):
            break
        checked = checker.before
        progress(checker.records)
        if last is not None and checked is not None and checked.statement.through > last:
            break
    if not checker.is_broken:
        _rest_check(checker, versions, trusted)
    if earliest is not None and number == 1:
        for item in events_of_days(earliest.isoformat(), _day_before(begin)):
            entry = item["entry"]["S"]
            checker.report(Tampering.INSERTED, f"The event {entry} is from before the first seal.", event=entry)
    checker.end(checked.statement.through if checked else "")
    waiting = checker.waiting() if last is None else 0
    return Verification(checker.findings, checked, checker.records, waiting, checker.expired)


def _replaced(keys: Mapping[str, PublicKey]) -> range:
    """The seals of the table that object storage has otherwise, signed as well. Seals from before these are the same.

    The digest of a seal covers all seals before it. So the last copy alone says whether there are such seals.
    """
    try:
        head = seal_head()
    except ValueError:
        # The check of this seal says so.
        return range(0)
    last = last_copied(head.number if head else 0)
    if not last or not _is_other(last, keys):
        return range(0)
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_other(middle, keys) else (middle, high)
    return range(high, last + 1)


def _is_other(number: int, keys: Mapping[str, PublicKey]) -> bool:
    """Whether the table has another seal of this number than a copy that is signed."""
    copy = copy_find(number)
    try:
        seal = seal_find(number)
    except ValueError:
        return False
    if copy is None or seal is None or seal.statement.digest == copy[0].statement.digest:
        return False
    return _is_signed(copy[0], keys)


def _first_number(first: str) -> int:
    """The number of the first seal that ends after this time; 1 if the table does not say."""
    try:
        seal = first_seal(seal_head(), lambda seal: seal.statement.through > first)
    except ValueError:
        return 1
    return seal.number if seal else 1


def _before(number: int, keys: Mapping[str, PublicKey]) -> Seal | None:
    """The seal before the first one that is checked, from which the check begins. Raises SealError."""
    if number == 1:
        return None
    try:
        seal = seal_find(number - 1)
    except ValueError as error:
        raise SealError(f"Seal {number - 1} was edited: {error}.") from error
    if seal is None:
        raise SealError(f"Seal {number - 1} is missing.")
    signature_check(seal, keys)
    edge_check(seal)
    return seal


def _begin(
    before: Seal | None,
    opening: tuple[int, Version | SealError | None] | None,
    keys: Mapping[str, PublicKey],
) -> str:
    """The first day whose events are checked: as a seal says that is signed, in the table or in object storage."""
    if before is not None:
        return before.statement.through[:10]
    version = opening[1] if opening else None
    if not isinstance(version, tuple) or not _is_signed(version[0], keys):
        version = copy_find(1)
    return version[0].statement.since[:10] if version and _is_signed(version[0], keys) else _today()


def _rest_check(
    checker: Checker,
    versions: Iterable[tuple[int, Version | SealError | None]],
    trusted: Mapping[str, PublicKey],
) -> None:
    """Follow the chain of seals to its end, and look for what is missing behind it."""
    for number, stored in versions:
        if not checker.follow(number, stored):
            return
    tail = checker.before
    following = tail.number + 1 if tail else 1
    copy = copy_find(following)
    if copy is not None and _is_signed(copy[0], checker.keys):
        message = f"Seal {following} and all after it were cut off the end: object storage has its copy."
        checker.report(Tampering.CUT_OFF, message, event=next(iter(copy[1].entries), None), seal=following)
    if tail is not None and tail.statement.key not in trusted:
        message = f"The last seal, {tail.number}, is signed by a key that only the table of seals has."
        checker.report(Tampering.SEAL, message, seal=tail.number)


def _is_signed(seal: Seal, keys: Mapping[str, PublicKey]) -> bool:
    try:
        signature_check(seal, keys)
    except SealError:
        return False
    return True


def _events(begin: str) -> Iterator[Event]:
    """The events from this day on, as they are now."""
    return map(_as_event, events_of_days(begin, max(begin, _today())))


def _event(entry: str) -> Event | None:
    item = event_item(entry)
    return _as_event(item) if item else None


def _as_event(item: Item) -> Event:
    entry = str(item["entry"]["S"])
    return Event(entry, leaf_hash(canonical_record(item)), entry_partition(entry) == item["day"]["S"])


def _today() -> str:
    return clock.timestamp(clock.now())[:10]


def _day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()
