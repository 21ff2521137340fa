"""What was done to a sealed trail is found, whatever it was, in the database and in an export."""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from apps.audit.canonical import canonical_bytes, canonical_record, leaf_hash
from apps.audit.models import AuditRecord, SealLeaves, SealRecord, seal_place, shard_key
from apps.audit.seals import hashes_join, key_digest, key_pem
from apps.audit.seals.checking import Tampering, Verification
from apps.audit.seals.copies import copy_name, copy_storage, copy_write
from apps.audit.seals.exported import export_verify
from apps.audit.selectors.seals import (
    events_of_days,
    leaves_find,
    lines_pack,
    seal_find,
    seal_head,
    seal_lines,
    trusted_keys,
)
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.nosql.connection import shared_connection
from tests.audit.sealed import copies_clear, good, sealed_trail, verified
from tests.audit.trail import event, write
from tests.emulator import items_read, items_replace

pytestmark = pytest.mark.usefixtures("tables")

SIZES = (5, 1, 7, 3)


def put(kind: type[Any], item: dict[str, Any]) -> None:
    """Write an item as someone does who has the table."""
    shared_connection().client.put_item(TableName=kind.Meta.table_name, Item=item)


def delete(kind: type[Any], item: dict[str, Any]) -> None:
    names = [name for name in (kind._hash_keyname, kind._range_keyname) if name]
    key = {name: item[name] for name in names}
    shared_connection().client.delete_item(TableName=kind.Meta.table_name, Key=key)


def stored(record: AuditRecord) -> dict[str, Any]:
    (item,) = AuditRecord.stored_items(record.day, AuditRecord.entry == record.entry)
    return item


def seal_row(kind: type[Any], number: int) -> dict[str, Any]:
    (item,) = kind.stored_items(kind.PART, kind.place == seal_place(number))
    return dict(item)


# By the emulator: the events of a trail, and all items. To make it anew would take a second.
_kept: dict[str, tuple[list[AuditRecord], bytes]] = {}


@pytest.fixture
def trail(emulator: str) -> Iterator[list[AuditRecord]]:
    """A trail of four seals, without copies."""
    copies_clear()
    if emulator not in _kept:
        written = sealed_trail(SIZES)
        _kept[emulator] = written, items_read(emulator)
        copies_clear()
    written, items = _kept[emulator]
    items_replace(emulator, items)
    yield written
    copies_clear()


def first_of(result: Verification) -> tuple[Tampering, str | None]:
    finding = result.findings[0]
    return finding.kind, finding.event


def test_a_trail_that_was_not_touched_is_good(trail: list[AuditRecord]) -> None:
    result = good(earliest=clock.now().date() - timedelta(days=6))
    assert (result.records, result.waiting) == (sum(SIZES), 0)
    write([event("job:just-now")])
    assert good().waiting == 1


def test_an_edited_event_is_named(trail: list[AuditRecord]) -> None:
    for number in (12, 4):
        put(AuditRecord, {**stored(trail[number]), "result": {"S": "refused"}})
    result = verified()
    assert [(finding.kind, finding.event, finding.seal) for finding in result.findings] == [
        (Tampering.EDITED, trail[4].entry, 1),
        (Tampering.EDITED, trail[12].entry, 3),
    ]


def test_an_added_or_removed_attribute_is_an_edit(trail: list[AuditRecord]) -> None:
    put(AuditRecord, {**stored(trail[2]), "note": {"S": "later"}})
    assert first_of(verified()) == (Tampering.EDITED, trail[2].entry)
    item = stored(trail[1])
    del item["detail"]
    put(AuditRecord, item)
    assert first_of(verified()) == (Tampering.EDITED, trail[1].entry)


def test_a_deleted_event_is_named(trail: list[AuditRecord]) -> None:
    delete(AuditRecord, stored(trail[7]))
    assert first_of(verified()) == (Tampering.DELETED, trail[7].entry)


def test_events_that_were_cut_off_the_end_are_named_by_the_first(trail: list[AuditRecord]) -> None:
    for record in trail[10:]:
        delete(AuditRecord, stored(record))
    result = verified()
    assert [(finding.kind, finding.event) for finding in result.findings] == [(Tampering.CUT_OFF, trail[10].entry)]


def test_an_inserted_event_is_named_wherever_it_is(trail: list[AuditRecord]) -> None:
    with clock.shifted(timedelta(minutes=-10)):
        (between,) = write([event("job:invented")])
    assert first_of(verified()) == (Tampering.INSERTED, between.entry)
    delete(AuditRecord, stored(between))
    # Before the first seal, where no check of the seals looks.
    with clock.shifted(timedelta(days=-4)):
        (before,) = write([event("job:invented")])
    assert first_of(verified(earliest=clock.now().date() - timedelta(days=6))) == (Tampering.INSERTED, before.entry)
    delete(AuditRecord, stored(before))
    # In a partition where it does not belong, with a time of next year.
    elsewhere = {**stored(trail[3]), "entry": {"S": f"2099{trail[3].entry[4:]}"}}
    put(AuditRecord, elsewhere)
    assert first_of(verified()) == (Tampering.INSERTED, elsewhere["entry"]["S"])


def test_a_second_event_with_the_same_id_is_named(trail: list[AuditRecord]) -> None:
    record = trail[3]
    day = record.day.partition("#")[0]
    shard = int(record.day.partition("#")[2] or 0)
    put(AuditRecord, {**stored(record), "day": {"S": shard_key(day, (shard + 1) % 8)}})
    assert first_of(verified()) == (Tampering.INSERTED, record.entry)


def test_a_moved_event_is_named(trail: list[AuditRecord]) -> None:
    item = stored(trail[2])
    delete(AuditRecord, item)
    moved = trail[9].entry[:26] + "9" + trail[2].entry[27:]
    put(AuditRecord, {**item, "entry": {"S": moved}})
    assert (Tampering.DELETED, trail[2].entry) == first_of(verified())
    assert moved in {finding.event for finding in verified().findings}


def test_leaves_in_another_order_are_reordered(trail: list[AuditRecord]) -> None:
    leaves = leaves_find(3)
    order = [0, 1, 4, 3, 2, 5, 6]
    row = seal_row(SealLeaves, 3)
    row["entries"] = {"B": lines_pack(leaves.lines[index] for index in order)}
    row["hashes"] = {"B": hashes_join([leaves.hashes[index] for index in order])}
    put(SealLeaves, row)
    assert first_of(verified()) == (Tampering.REORDERED, leaves.entries[4])


@pytest.mark.parametrize("with_copies", [True, False])
@pytest.mark.parametrize("what", ["seal", "leaves"])
def test_a_deleted_seal_is_found_and_its_copy_takes_its_place(
    trail: list[AuditRecord], what: str, with_copies: bool
) -> None:
    if with_copies:
        copies = [(seal_find(number), leaves_find(number)) for number in range(1, 5)]
        for seal, leaves in copies:
            assert seal is not None
            copy_storage().save_stream(copy_name(seal.number), [copy_write(seal, leaves)])
    kind: type[Any] = SealRecord if what == "seal" else SealLeaves
    delete(kind, seal_row(kind, 2))
    put(AuditRecord, {**stored(trail[-1]), "result": {"S": "edited"}})
    result = verified()
    assert (result.findings[0].kind, result.findings[0].seal) == (Tampering.SEAL, 2)
    # What comes behind can be checked only if what was sealed is known.
    assert (Tampering.EDITED in {finding.kind for finding in result.findings}) == with_copies


def test_seals_that_were_cut_off_the_end_are_found_by_their_copies(trail: list[AuditRecord]) -> None:
    seal = seal_find(3)
    assert seal is not None
    copy_storage().save_stream(copy_name(3), [copy_write(seal, leaves_find(3))])
    for number in (3, 4):
        delete(SealRecord, seal_row(SealRecord, number))
        delete(SealLeaves, seal_row(SealLeaves, number))
    result = verified()
    assert [(finding.kind, finding.seal) for finding in result.findings] == [(Tampering.CUT_OFF, 3)]
    assert result.waiting == 10


def forged_trail(number: int) -> ed25519.Ed25519PrivateKey:
    """Sign the seals from this number on again, with a key of one's own, which is put among the others."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key()
    put(SealRecord, {"part": {"S": "key"}, "place": {"S": key_digest(public)}, "pem": {"S": key_pem(public)}})
    before = seal_find(number - 1)
    while (seal := seal_find(number)) is not None:
        previous = before.statement.digest if before else seal.statement.previous
        statement = replace(seal.statement, key=key_digest(public), previous=previous)
        row = seal_row(SealRecord, number)
        row |= {"statement": {"S": statement.text}, "signature": {"B": key.sign(statement.signed)}}
        put(SealRecord, row)
        before, number = seal_find(number), number + 1
    return key


def test_a_first_seal_whose_time_is_none_is_named(trail: list[AuditRecord]) -> None:
    row = seal_row(SealRecord, 1)
    seal = seal_find(1)
    assert seal is not None
    put(SealRecord, {**row, "statement": {"S": replace(seal.statement, since="2026-1b-27").text}})
    assert (verified().findings[0].kind, verified().findings[0].seal) == (Tampering.SEAL, 1)


@pytest.mark.parametrize("number", [1, 4])
def test_seals_that_someone_else_has_signed_are_found(trail: list[AuditRecord], number: int) -> None:
    forged_trail(number)
    assert {finding.kind for finding in verified().findings} == {Tampering.SEAL}


def test_a_part_of_the_trail_can_be_checked(trail: list[AuditRecord]) -> None:
    put(AuditRecord, {**stored(trail[2]), "result": {"S": "refused"}})
    third, second = seal_find(3), seal_find(2)
    assert third is not None
    assert second is not None
    assert good(first=second.statement.through).records == 10
    assert good(first=second.statement.through, last=third.statement.since).records == 7
    assert first_of(verified(last=second.statement.since)) == (Tampering.EDITED, trail[2].entry)
    delete(SealRecord, seal_row(SealRecord, 2))
    assert verified(first=third.statement.since).findings[0].kind == Tampering.SEAL


def test_a_check_says_that_it_could_not_check_when_object_storage_fails(
    trail: list[AuditRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(copy_storage(), "read_range", fail)
    with pytest.raises(Unavailable):
        verified()


# --- exports --------------------------------------------------------------------------------------------------------


def export_of(days: int = 2) -> list[str]:
    """The lines of an export of the whole trail with its seals."""
    today = clock.now().date()
    items = events_of_days(f"{today - timedelta(days=days)}", f"{today}")
    return [*seal_lines(), *(canonical_bytes(canonical_record(item)).decode() for item in items)]


def checked(folder: Path, lines: list[str], **options: Any) -> Verification:
    file = folder / "export.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines))
    return export_verify(file, keys=trusted_keys(), **options)


def test_an_export_is_checked_with_public_keys_alone(
    trail: list[AuditRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, keys = export_of(), trusted_keys()
    monkeypatch.setattr(shared_connection(), "_make_api_call", None)
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(lines))
    result = export_verify(file, keys=keys)
    assert (result.findings, result.records, result.waiting) == ([], sum(SIZES), 0)


def test_an_export_of_a_part_is_checked_from_the_seal_before_it(trail: list[AuditRecord], tmp_path: Path) -> None:
    head = seal_head()
    assert head is not None
    events = export_of()[4:]
    result = checked(tmp_path, [*seal_lines(head.statement.since), *events[-3:]])
    assert (result.findings, result.records) == ([], 3)


def test_an_export_that_ends_too_early_is_cut_off(trail: list[AuditRecord], tmp_path: Path) -> None:
    lines = export_of()
    short = [*lines[:3], *lines[4:-3]]
    assert checked(tmp_path, short).findings == []
    result = checked(tmp_path, short, last=clock.timestamp(clock.now()))
    assert [finding.kind for finding in result.findings] == [Tampering.CUT_OFF]
    assert checked(tmp_path, [*lines[:3], *lines[4:]]).waiting == 3


# --- many kinds of tampering ----------------------------------------------------------------------------------------


def another(random: Random, text: str) -> str:
    """The text with one other character."""
    at = random.randrange(len(text))
    return text[:at] + random.choice([letter for letter in "abc012" if letter != text[at]]) + text[at + 1 :]


def flipped(random: Random, data: bytes) -> bytes:
    """The bytes with one other bit."""
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


class Lines:
    """Ways to tamper with an export: `seals` lines of seals, and then those of events."""

    def __init__(self, random: Random, lines: list[str], seals: int) -> None:
        self.random, self.lines, self.seals = random, list(lines), seals
        self.event = random.randrange(seals, len(lines))

    def edit(self) -> None:
        self.lines[self.event] = another(self.random, self.lines[self.event])

    def edit_a_value(self) -> None:
        record = json.loads(self.lines[self.event])
        name = self.random.choice(sorted(record.keys() - {"entry"}))
        record[name] = another(self.random, record[name])
        self.lines[self.event] = canonical_bytes(record).decode()

    def edit_with_its_leaf(self) -> None:
        """Both the event and what the file says of its leaf."""
        record = json.loads(self.lines[self.event])
        old = leaf_hash(record).hex()
        record["result"] = "edited"
        self.lines[self.event] = canonical_bytes(record).decode()
        for number in range(self.seals):
            self.lines[number] = self.lines[number].replace(old, leaf_hash(record).hex())

    def add_an_attribute(self) -> None:
        self.lines[self.event] = self.lines[self.event][:-1] + ',"zz":"added"}'

    def repeat_a_name(self) -> None:
        self.lines[self.event] = '{"result":"other",' + self.lines[self.event][1:]

    def delete(self) -> None:
        del self.lines[self.event]

    def double(self) -> None:
        self.lines.insert(self.event, self.lines[self.event])

    def insert(self) -> None:
        record = json.loads(self.lines[self.event])
        record["entry"] = record["entry"][:-9] + "".join(self.random.choices("0123456789abc", k=9))
        self.lines.insert(self.event, canonical_bytes(record).decode())

    def swap(self) -> None:
        other = self.random.choice([number for number in range(self.seals, len(self.lines)) if number != self.event])
        self.lines[self.event], self.lines[other] = self.lines[other], self.lines[self.event]

    def cut_off(self) -> None:
        del self.lines[self.event :]

    def edit_a_seal(self) -> None:
        number = self.random.randrange(self.seals)
        self.lines[number] = another(self.random, self.lines[number])

    def delete_a_seal(self) -> None:
        # Without the last one, its events are behind the last seal, which is another result.
        del self.lines[self.random.randrange(self.seals - 1)]

    def swap_seals(self) -> None:
        one, two = self.random.sample(range(self.seals), 2)
        self.lines[one], self.lines[two] = self.lines[two], self.lines[one]


WAYS: list[Callable[[Lines], None]] = [way for name, way in vars(Lines).items() if not name.startswith("_")]


@pytest.mark.parametrize("mutations", [60, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_tampering_of_every_kind_with_an_export_is_found(
    trail: list[AuditRecord], tmp_path: Path, mutations: int
) -> None:
    random, whole, seals = Random(mutations), export_of(), len(SIZES)
    found = 0
    for number in range(mutations):
        lines = Lines(random, whole, seals)
        way = WAYS[number % len(WAYS)]
        way(lines)
        try:
            result = checked(tmp_path, lines.lines)
        except ValueError:
            # A line that is neither an event nor a seal.
            found += 1
            continue
        assert result.findings or result.waiting, (way.__name__, number)
        found += 1
    assert found == mutations


def is_same(one: bytes, two: bytes) -> bool:
    """Whether the bytes stand for the same. Compressed data has some bits that mean nothing."""
    try:
        return one == two or zlib.decompress(one) == zlib.decompress(two)
    except zlib.error:
        return False


class Tables:
    """Ways to tamper with the tables."""

    def __init__(self, random: Random) -> None:
        self.random = random
        today = clock.now().date()
        self.items = list(events_of_days(f"{today - timedelta(days=1)}", f"{today}"))
        self.item = dict(random.choice(self.items))
        self.number = random.randrange(1, len(SIZES) + 1)

    def edit(self) -> None:
        name = self.random.choice(sorted(self.item.keys() - {"day", "entry"}))
        put(AuditRecord, {**self.item, name: {"S": another(self.random, self.item[name]["S"])}})

    def remove_an_attribute(self) -> None:
        name = self.random.choice(sorted(self.item.keys() - {"day", "entry"}))
        put(AuditRecord, {key: value for key, value in self.item.items() if key != name})

    def add_an_attribute(self) -> None:
        put(AuditRecord, {**self.item, "zz": {"N": "1"}})

    def delete(self) -> None:
        delete(AuditRecord, self.item)

    def delete_as_if_expired(self) -> None:
        """The row of the leaves says that the event was to expire long ago, or that it was an older one."""
        self.delete()
        entry = self.item["entry"]["S"]
        for number in range(1, len(SIZES) + 1):
            lines = leaves_find(number).lines
            if entry in lines:
                lines[lines.index(entry)] = self.random.choice([f"{entry} 1", f"2020{entry[4:]} 1", f"2020{entry[4:]}"])
                put(SealLeaves, {**seal_row(SealLeaves, number), "entries": {"B": lines_pack(lines)}})

    def insert(self) -> None:
        entry, mark, rest = self.item["entry"]["S"].partition("#")
        put(AuditRecord, {**self.item, "entry": {"S": f"{entry}{mark}{another(self.random, rest[:26])}{rest[26:]}"}})

    def move(self) -> None:
        self.delete()
        self.insert()

    def copy_to_another_shard(self) -> None:
        day, _, shard = self.item["day"]["S"].partition("#")
        other = (int(shard or 0) + self.random.randrange(1, 8)) % 8
        put(AuditRecord, {**self.item, "day": {"S": shard_key(day, other)}})

    def swap_contents(self) -> None:
        other = dict(self.random.choice([item for item in self.items if item["entry"] != self.item["entry"]]))
        keys = {"day", "entry"}
        for one, two in ((self.item, other), (other, self.item)):
            put(AuditRecord, {name: one[name] if name in keys else two[name] for name in one})

    def cut_off(self) -> None:
        for item in self.items[self.random.randrange(len(self.items)) :]:
            delete(AuditRecord, dict(item))

    def edit_a_seal(self) -> None:
        row = seal_row(SealRecord, self.number)
        name = self.random.choice(["statement", "signature", "edge"])
        (kind, value), *_ = row[name].items()
        row[name] = {kind: another(self.random, value) if kind == "S" else flipped(self.random, value)}
        put(SealRecord, row)

    def edit_leaves(self) -> None:
        row = seal_row(SealLeaves, self.number)
        name = self.random.choice(["entries", "hashes"])
        data = row[name]["B"]
        while is_same(data, row[name]["B"]):
            data = flipped(self.random, row[name]["B"])
        put(SealLeaves, {**row, name: {"B": data}})

    def edit_with_its_leaf(self) -> None:
        leaves = [leaves_find(number) for number in range(1, len(SIZES) + 1)]
        entry = self.item["entry"]["S"]
        number = next(number for number, part in enumerate(leaves, 1) if entry in part.entries)
        item = {**self.item, "result": {"S": "edited"}}
        put(AuditRecord, item)
        hashes = list(leaves[number - 1].hashes)
        hashes[leaves[number - 1].entries.index(entry)] = leaf_hash(canonical_record(item))
        put(SealLeaves, {**seal_row(SealLeaves, number), "hashes": {"B": hashes_join(hashes)}})

    def delete_a_seal(self) -> None:
        number = self.random.randrange(1, len(SIZES))
        kind: type[Any] = self.random.choice([SealRecord, SealLeaves])
        delete(kind, seal_row(kind, number))

    def swap_seals(self) -> None:
        one, two = self.random.sample(range(1, len(SIZES) + 1), 2)
        rows = {number: seal_row(SealRecord, number) for number in (one, two)}
        for here, there in ((one, two), (two, one)):
            put(SealRecord, {**rows[there], "place": rows[here]["place"]})

    def sign_again(self) -> None:
        forged_trail(self.number)


TABLE_WAYS: list[Callable[[Tables], None]] = [way for name, way in vars(Tables).items() if not name.startswith("_")]


@pytest.mark.parametrize("mutations", [len(TABLE_WAYS), pytest.param(10_000, marks=pytest.mark.nightly)])
def test_tampering_of_every_kind_with_the_tables_is_found(
    trail: list[AuditRecord], emulator: str, mutations: int
) -> None:
    random, whole = Random(mutations), items_read(emulator)
    unnoticed = []
    for number in range(mutations):
        way = TABLE_WAYS[number % len(TABLE_WAYS)]
        way(Tables(random))
        if not verified().findings:
            unnoticed.append((way.__name__, number))
        items_replace(emulator, whole)
        if number % 100 == 0:
            # What was found is gone with the mutation.
            good()
    assert unnoticed == []
    good()
