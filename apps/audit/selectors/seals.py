"""Reading seals, and the trail as it is sealed: in the order of its entries, as it is stored."""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from heapq import merge

from pynamodb.expressions.condition import Condition

from apps.audit.canonical import Item
from apps.audit.merkle import Edge
from apps.audit.models import AuditRecord, SealKey, SealLeaves, SealRecord, entry_partition, seal_place, shard_keys
from apps.audit.seals import Leaves, Seal, SealError, Statement, hashes_split, key_digest, keys_parse
from apps.audit.seals.checking import Version
from apps.audit.seals.copies import copy_write
from controlplane.lib.frozen import frozen
from controlplane.lib.signing_keys import PublicKey, Purpose, signing_keys
from controlplane.nosql.listing import Listing, place_decode

# The target of the events that record a check of the trail.
CHECKED = "audit:seals"

_SCOPE = "audit seals"
_ENTRY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{15}Z#[0-9a-z]{1,40}(?:#[0-9]{1,2})?")
_MIDNIGHT = "T00:00:00.000000Z"


def seal_head() -> Seal | None:
    """The last seal, read consistently; None before the first one."""
    found = SealRecord.query(SealRecord.PART, consistent_read=True, scan_index_forward=False, limit=1)
    return next((_seal(record) for record in found), None)


def seal_find(number: int) -> Seal | None:
    """The seal of this number, or None."""
    record = SealRecord.find(SealRecord.PART, seal_place(number))
    return _seal(record) if record else None


def seals_numbered(numbers: Sequence[int]) -> dict[int, Seal]:
    """The seals of these numbers, read consistently; without those that are missing, and rows that are none of one."""
    seals: dict[int, Seal] = {}
    try:
        records = SealRecord.find_many((SealRecord.PART, seal_place(number)) for number in numbers)
    except TypeError:
        # An attribute of a row has another type. Each is read alone, so that the others are found.
        for number in numbers if len(numbers) > 1 else ():
            seals |= seals_numbered([number])
        return seals
    for record in records:
        with suppress(ValueError, TypeError):
            seals[int(record.place)] = _seal(record)
    return seals


def seals_from(number: int, last: int | None = None) -> Iterator[Seal]:
    """The seals from this number on, in their order, up to `last` if it is given, read consistently.

    Raises ValueError at a row that is none of a seal.
    """
    within: Condition = SealRecord.place >= seal_place(number)
    if last is not None:
        within = SealRecord.place.between(seal_place(number), seal_place(last))
    for record in SealRecord.query(SealRecord.PART, within, consistent_read=True):
        yield _seal(record)


# Seals by their numbers, newest first.
_SEALS = Listing(SealRecord, None, descending=True)


@frozen
class SealPage:
    """Seals, newest first. `next_cursor` continues the list and is None on its last page."""

    seals: list[Seal]
    next_cursor: str | None


def seal_page(*, limit: int = 20, cursor: str | None = None) -> SealPage:
    """A page of seals. Raises InvalidInput for a cursor of another list."""
    page = _SEALS.page([SealRecord.PART], limit=limit, start=place_decode(_SCOPE, cursor))
    return SealPage(list(map(_seal, page.records)), page.next_cursor(_SCOPE))


def leaves_from(number: int, last: int | None = None) -> Iterator[tuple[int, Leaves]]:
    """The numbers of the seals from `number` on with their leaves, up to `last` if it is given, read consistently.

    Raises ValueError at a row that is none of leaves.
    """
    within: Condition = SealLeaves.place >= seal_place(number)
    if last is not None:
        within = SealLeaves.place.between(seal_place(number), seal_place(last))
    for row in SealLeaves.query(SealLeaves.PART, within, consistent_read=True):
        yield int(row.place), _leaves(row)


def versions_from(number: int) -> Iterator[tuple[int, Version | SealError | None]]:
    """The seals from this number on with their leaves, as the table has them, for a check of them.

    It gives an error where a row is none of a seal, and None where it is missing and a later one is there.
    """
    leaves_rows = SealLeaves.stored_items(SealLeaves.PART, SealLeaves.place >= seal_place(number))
    leaves = next(leaves_rows, None)
    for row in SealRecord.stored_items(SealRecord.PART, SealRecord.place >= seal_place(number)):
        place = row["place"]["S"]
        while place.isdecimal() and number < int(place):
            yield number, None
            number += 1
        while leaves is not None and leaves["place"]["S"] < place:
            leaves = next(leaves_rows, None)
        yield number, _version(row, leaves if leaves is not None and leaves["place"]["S"] == place else None)
        number += 1


def seal_lines(first: str = "", last: str | None = None) -> Iterator[str]:
    """The seals that have a part from the time `first` to `last` (all by default), and the one before, as lines.

    With the events of that time, by their entries, `export_verify` can check them. Raises SealError at what is no seal.
    """
    beginning = first_seal(seal_head(), lambda seal: seal.statement.through > first)
    if beginning is None:
        return
    for _, version in versions_from(max(1, beginning.number - 1)):
        if not isinstance(version, tuple):
            raise version or SealError("A seal is missing.")
        yield copy_write(*version).decode()
        if last is not None and version[0].statement.through > last:
            return


def _version(row: Item, leaves: Item | None) -> Version | SealError:
    try:
        seal = _seal(SealRecord.from_raw_data(dict(row)))
        if leaves is None:
            return seal, Leaves()
        return seal, _leaves(SealLeaves.from_raw_data(dict(leaves)))
    except (ValueError, TypeError, AttributeError) as error:
        return SealError(f"The row {row['place']['S']} is none of a seal: {error}.")


def leaves_find(number: int) -> Leaves:
    """The leaves of a seal; none if there is no such seal."""
    return next((leaves for _, leaves in leaves_from(number, number)), Leaves())


def lines_pack(lines: Iterable[str]) -> bytes:
    """The lines of leaves as one compressed value."""
    return zlib.compress("\n".join(lines).encode())


def _lines_unpack(data: bytes) -> list[str]:
    """The lines of `lines_pack`. Raises ValueError for other bytes."""
    try:
        text = zlib.decompress(data).decode()
    except zlib.error as error:
        raise ValueError("these bytes are no entries") from error
    return text.split("\n") if text else []


def seal_keys() -> dict[str, PublicKey]:
    """The public keys that the table of seals has, by their digests. Anyone with write access can add one."""
    keys: dict[str, PublicKey] = {}
    for row in SealKey.query(SealKey.PART, consistent_read=True):
        keys |= keys_parse(str(row.pem))
    return keys


def trusted_keys() -> dict[str, PublicKey]:
    """The public keys of this control plane that sign seals now or did before, by their digests. Raises Unavailable."""
    return {key_digest(key.public_key): key.public_key for key in signing_keys(Purpose.AUDIT)}


def events_between(since: str, through: str, *, keys_only: bool = False) -> Iterator[Item]:
    """The stored items of all events from the entry `since` to before `through`, by their entries, read consistently.

    It costs a call for each shard of each day. With `keys_only` the items have only their entries.
    """
    attributes = ["entry"] if keys_only else None
    within = AuditRecord.entry.between(since, through)
    for day in _days(since, through):
        shards = (AuditRecord.stored_items(shard, within, attributes=attributes) for shard in shard_keys(day))
        for item in merge(*shards, key=_entry):
            if _entry(item) < through:
                yield item


def events_of_days(first: str, last: str) -> Iterator[Item]:
    """The stored items of all events in the partitions of these days, by their entries, day by day."""
    for day in _days(f"{first}{_MIDNIGHT}", f"{last}~"):
        yield from merge(*map(AuditRecord.stored_items, shard_keys(day)), key=_entry)


def event_find(entry: str) -> AuditRecord | None:
    """The event with this id, or None. `entry` may be any text. One read."""
    return AuditRecord.find(entry_partition(entry), entry) if _ENTRY.fullmatch(entry) else None


def event_item(entry: str) -> Item | None:
    """The stored item of an event, or None. `entry` may be any text. One read."""
    record = event_find(entry)
    return record.stored if record else None


@frozen
class Position:
    """Where an event is sealed: its seal, and which of all leaves of the trail it is."""

    seal: Seal
    leaf: int


def position_find(entry: str) -> Position | None:
    """Where an event is sealed; None while it is not. It costs a read for each doubling of the number of seals."""
    head = seal_head()
    seal = first_seal(head, lambda seal: seal.statement.through > entry)
    if seal is None:
        return None
    position = _position(seal, entry)
    if position is None:
        # A late event is in the seal whose second look found it.
        number = seal.number
        seal = first_seal(head, lambda seal: seal.statement.settled >= number)
        position = _position(seal, entry) if seal else None
    return position


def first_seal(head: Seal | None, fits: Callable[[Seal], bool]) -> Seal | None:
    """The first seal that fits, where all later ones fit, too."""
    if head is None or not fits(head):
        return None
    low, high, found = 1, head.number, head
    while low < high:
        middle = (low + high) // 2
        seal = seal_find(middle)
        if seal is None or not fits(seal):
            low = middle + 1
        else:
            high, found = middle, seal
    return found


def _position(seal: Seal, entry: str) -> Position | None:
    entries = leaves_find(seal.number).entries
    if entry not in entries:
        return None
    return Position(seal, seal.statement.size - seal.statement.records + entries.index(entry))


def _seal(record: SealRecord) -> Seal:
    statement = Statement.parse(str(record.statement))
    edge = Edge(statement.size, hashes_split(record.edge))
    return Seal(statement, record.signature, edge, hashes_split(record.consistency or b""))


def _leaves(row: SealLeaves) -> Leaves:
    return Leaves.of(_lines_unpack(row.entries), hashes_split(row.hashes))


def _days(since: str, through: str) -> Iterator[str]:
    """The days that have entries from `since` to before `through`."""
    first, last = date.fromisoformat(since[:10]), date.fromisoformat(through[:10])
    if through[10:] == _MIDNIGHT:
        last -= timedelta(days=1)
    for number in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(number).isoformat()


def _entry(item: Item) -> str:
    return str(item["entry"]["S"])
