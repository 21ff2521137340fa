"""Each minute's events are sealed: once, in order, and none is missed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.core.cache import cache

from apps.audit.actions import Action
from apps.audit.models import SHARDS, AuditRecord, SealKey, SealLeaves, SealRecord, seal_place
from apps.audit.seals import NO_DIGEST, key_digest, key_pem
from apps.audit.seals.copies import copy_name, copy_read, copy_storage, copy_write
from apps.audit.selectors.seals import leaves_find, seal_find, seal_head, seal_keys
from apps.audit.services import audit_add, sealing
from apps.audit.services.sealing import audit_seal, audit_seals_copy
from controlplane.lib import clock, signing_keys
from controlplane.lib.errors import Unavailable
from controlplane.lib.signing_keys import Purpose, signing_key_create
from controlplane.nosql.connection import shared_connection
from controlplane.nosql.transaction import Transaction
from tests.audit.sealed import SOON, copies_clear, good, late_event, seal_now, sealed_trail, verified
from tests.audit.trail import ADA, event, write
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables", "own_copies")

# In the middle of a day, so that no test crosses midnight.
NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def own_copies() -> Iterator[None]:
    copies_clear()
    yield
    copies_clear()


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Trails begin on this day, and to look for an earlier one costs eight calls for each day.
    monkeypatch.setattr(sealing, "_EMPTY_DAYS", 0)
    with clock.shifted(NOON - clock.now()):
        yield


def test_a_minute_is_sealed_two_minutes_after_its_end_and_not_before(noon: None) -> None:
    write([event("job:1"), event("job:2")])
    assert seal_now(timedelta(minutes=2)) == 0
    assert seal_head() is None
    assert seal_now(timedelta(minutes=2, seconds=30)) == 2
    seal = seal_head()
    assert seal is not None
    assert (seal.number, seal.statement.records, seal.statement.previous) == (1, 2, NO_DIGEST)
    assert seal.statement.since == "2026-11-21T00:00:00.000000Z"
    assert seal.statement.through == "2026-11-21T12:01:00.000000Z"


def test_the_leaves_of_a_seal_are_its_events_in_their_order_and_each_seal_continues_the_one_before() -> None:
    written = sealed_trail((3, 1, 4))
    assert [leaves_find(number).entries for number in (1, 2, 3)] == [
        [record.entry for record in part] for part in (written[:3], written[3:4], written[4:])
    ]
    seals = [seal_find(number) for number in (1, 2, 3)]
    for before, after in pairwise(seals):
        assert before is not None
        assert after is not None
        assert after.statement.previous == before.statement.digest
        assert after.statement.since == before.statement.through
    result = good()
    assert (result.records, result.waiting) == (8, 0)


def test_sealing_costs_nothing_in_a_minute_without_events(noon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No write and no signature, and one read of each shard of the day."""
    sealed_trail((2,))
    monkeypatch.setattr(sealing, "signing_key", _never)
    monkeypatch.setattr(copy_storage(), "save_stream", _never)
    seal_now()
    for minute in range(1, 4):
        with dynamodb_calls() as counted:
            assert seal_now(SOON + timedelta(minutes=minute)) == 0
        assert counted.operations == ["Query"] * SHARDS
        assert counted.write_units == 0
    with dynamodb_calls() as counted:
        assert seal_now(SOON + timedelta(minutes=3)) == 0
    assert counted.calls == 0


def test_sealing_a_minute_reads_no_earlier_event_and_costs_as_many_calls_at_any_length(noon: None) -> None:
    calls = []
    for minute in range(0, 30, 10):
        with clock.shifted(timedelta(minutes=minute)):
            written = write(event(f"job:{number}") for number in range(40))
            with dynamodb_calls() as counted:
                assert seal_now() == len(written)
            calls.append(sorted(counted.operations))
    # The head, the shards, the transaction, and for the copy the head, the seal and its leaves.
    assert calls[1] == ["GetItem", *["Query"] * (1 + SHARDS + 1 + 1), "TransactWriteItems"]
    # Each quarter of an hour, the seals for a second look.
    assert calls[2] == ["GetItem", *["Query"] * (1 + SHARDS + 1 + 1 + 1), "TransactWriteItems"]


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was not needed")


def test_a_late_event_is_sealed_by_a_later_seal(noon: None) -> None:
    late = late_event()
    sealed_trail((3, 2))
    write([late])
    assert seal_now() == 0
    assert seal_now(timedelta(minutes=30)) == 0
    (finding,) = verified().findings
    assert (finding.kind, finding.event) == ("inserted", late.entry)
    assert seal_now(timedelta(minutes=70)) == 1
    seal = seal_head()
    assert seal is not None
    assert (seal.number, seal.statement.late, seal.statement.settled) == (3, 1, 2)
    assert leaves_find(3).entries == [late.entry]
    assert good().records == 6
    assert seal_now(timedelta(minutes=200)) == 0


def test_late_events_are_sealed_with_the_events_of_a_minute(noon: None) -> None:
    lates = [late_event(f"job:late{number}") for number in range(3)]
    sealed_trail((3, 2))
    write(lates)
    with clock.shifted(timedelta(minutes=70)):
        write([event("job:in-time")])
        assert seal_now() == 4
        assert leaves_find(3).entries[1:] == sorted(late.entry for late in lates)
        assert good().records == 9


def test_an_event_of_a_clock_that_is_ahead_is_sealed_when_its_time_has_come(noon: None) -> None:
    with clock.shifted(timedelta(minutes=20)):
        write([event("job:ahead")])
    sealed_trail((1,))
    assert seal_now(timedelta(minutes=10)) == 0
    assert seal_now(timedelta(minutes=23)) == 1
    assert good().records == 2


def test_a_sealer_whose_clock_is_ahead_misses_nothing(noon: None) -> None:
    write([event("job:1")])
    assert seal_now(timedelta(minutes=10)) == 1
    with clock.shifted(timedelta(minutes=5)):
        write([event("job:2")])
        assert seal_now(timedelta(minutes=1)) == 0
    assert seal_now(timedelta(minutes=90)) == 1
    assert good().records == 2


def test_more_events_than_a_seal_takes_are_sealed_by_several(noon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MAX_LEAVES", 4)
    written = write(event(f"job:{number}") for number in range(11))
    late = event("job:late")
    assert seal_now() == 11
    assert [len(leaves_find(number).entries) for number in (1, 2, 3)] == [4, 4, 3]
    assert good().records == len(written)
    write([late])
    assert seal_now(timedelta(minutes=90)) == 1
    assert good().records == 12


def test_a_sweep_stops_in_time_and_the_next_one_goes_on(noon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MAX_LEAVES", 4)
    write(event(f"job:{number}") for number in range(10))
    with clock.shifted(SOON):
        assert [audit_seal(seconds=0) for _ in range(4)] == [4, 4, 2, 0]
    assert good().records == 10


def test_a_trail_from_before_sealing_is_sealed_from_its_first_event(
    noon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_EMPTY_DAYS", 7)
    for days in (6, 3, 0):
        with clock.shifted(timedelta(days=-days)):
            write([event(f"job:{days}")])
    assert seal_now() == 3
    seal = seal_head()
    assert seal is not None
    assert seal.statement.since == "2026-11-15T00:00:00.000000Z"
    assert good(earliest=NOON.date() - timedelta(days=20)).records == 3


def test_two_sweeps_at_once_make_one_seal(noon: None) -> None:
    write(event(f"job:{number}") for number in range(20))
    begin = threading.Barrier(4)

    def sweep(_: int) -> int:
        begin.wait()
        return audit_seal(seconds=5)

    with clock.shifted(SOON), ThreadPoolExecutor(4) as pool:
        list(pool.map(sweep, range(4)))
    seal = seal_head()
    assert seal is not None
    assert (seal.number, seal.statement.size) == (1, 20)
    assert good().records == 20


@pytest.mark.parametrize(("writers", "acts"), [(50, 2), pytest.param(50, 60, marks=pytest.mark.nightly)])
def test_50_writers_at_once_lose_no_event_and_sealing_while_they_write_misses_none(
    writers: int, acts: int, monkeypatch: pytest.MonkeyPatch, noon: None
) -> None:
    """The sealer seals each second, up to this moment, so that it always meets events that are just being written."""
    monkeypatch.setattr(sealing, "DELAY", timedelta())
    monkeypatch.setattr(clock, "timestamp", _to_the_second(clock.timestamp))
    is_over = threading.Event()

    def act(writer: int) -> None:
        for number in range(acts):
            tx = Transaction()
            audit_add(tx, actor=ADA, action=Action.JOB_CREATED, target=f"job:{writer}-{number}")
            tx.commit()

    def seal() -> None:
        while not is_over.is_set():
            audit_seal(seconds=1)

    with ThreadPoolExecutor(writers + 1) as pool:
        sealer = pool.submit(seal)
        list(pool.map(act, range(writers)))
        is_over.set()
        sealer.result()
    seal_now(timedelta(minutes=2))
    cache.clear()
    seal_now(timedelta(minutes=120))
    head = seal_head()
    assert head is not None
    assert head.statement.size == writers * acts == good().records


def _to_the_second(timestamp: Callable[[datetime], str]) -> Callable[[datetime], str]:
    """Whole minutes, up to which the sealer seals, become this moment."""
    return lambda moment: timestamp(clock.now() if moment.second == moment.microsecond == 0 else moment)


# --- failures -------------------------------------------------------------------------------------------------------


def test_while_kms_fails_nothing_is_lost_and_after_15_minutes_the_sweep_fails(
    noon: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Purpose) -> Any:
        raise Unavailable("AWS (KMS) is not available. Try again.")

    write([event("job:1"), event("job:2")])
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "signing_key", fail)
        assert seal_now() == 0
        assert "could not be sealed" in caplog.text
        with pytest.raises(Unavailable, match="KMS"):
            seal_now(timedelta(minutes=17))
    assert seal_now(timedelta(minutes=18)) == 2
    assert good().records == 2


def test_while_object_storage_fails_seals_are_made_and_their_copies_follow(
    noon: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(copy_storage(), "save_stream", fail)
        sealed_trail((1, 2, 1))
        assert "could not be copied" in caplog.text
        assert seal_head() is not None
        with clock.shifted(SOON + timedelta(minutes=17)), pytest.raises(Unavailable, match="Object storage"):
            audit_seals_copy(seconds=1)
    assert not copy_storage().exists(copy_name(1))
    assert audit_seals_copy(seconds=5) == 3
    for number in (1, 2, 3):
        seal, leaves = copy_read(Path(copy_storage().path(copy_name(number))).read_bytes())
        assert (seal, leaves) == (seal_find(number), leaves_find(number))
    cache.clear()
    assert audit_seals_copy(seconds=5) == 0


def test_a_process_that_starts_anew_copies_only_what_has_no_copy(noon: None) -> None:
    sealed_trail((1, 1, 1))
    for number in (2, 3):
        copy_storage().delete(copy_name(number))
    cache.clear()
    assert audit_seals_copy(seconds=5) == 2


def test_a_sweep_that_dies_at_any_call_leaves_no_gap(noon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to each call is lost, one after the other, whether DynamoDB did what was asked or not."""
    sealed_trail((2,))
    connection = Transaction._send
    for done in (True, False):
        with clock.shifted(timedelta(minutes=10 * (2 - done))):
            write([event("job:more")])

            def die(self: Transaction, done: bool = done) -> None:
                if done:
                    connection(self)
                raise Unavailable

            with monkeypatch.context() as patched:
                patched.setattr(Transaction, "_send", die)
                with pytest.raises(Unavailable):
                    seal_now()
            assert seal_now() == (0 if done else 1)
    assert good().records == 4


def test_seals_of_a_rotated_key_are_checked_by_the_key_in_the_table(noon: None, tmp_path: Path, settings: Any) -> None:
    settings.KEY_FILE = tmp_path / "sealing.key"
    sealed_trail((1, 1))
    signing_key_create(Purpose.AUDIT)
    with clock.shifted(timedelta(minutes=10)):
        write([event("job:3")])
        seal_now()
    assert good().records == 3
    assert len(seal_keys()) == 2
    # The older key is gone, as one of KMS that was deleted.
    newest = signing_keys.signing_keys(Purpose.AUDIT)[0]
    for file in (tmp_path / "signing").iterdir():
        if file.read_bytes() != sorted((tmp_path / "signing").iterdir())[-1].read_bytes():
            file.unlink()
    assert [key.key_id for key in signing_keys.signing_keys(Purpose.AUDIT)] == [newest.key_id]
    assert good().records == 3


def test_seals_of_a_key_that_only_the_table_has_are_not_trusted(noon: None, tmp_path: Path, settings: Any) -> None:
    settings.KEY_FILE = tmp_path / "a" / "sealing.key"
    sealed_trail((1,))
    settings.KEY_FILE = tmp_path / "b" / "sealing.key"
    (finding,) = verified().findings
    assert finding.kind == "seal changed"
    assert "only the table" in finding.message


# --- attacks --------------------------------------------------------------------------------------------------------


def put(row: dict[str, Any]) -> None:
    """Write a row of the seals, as someone does who has the table."""
    shared_connection().client.put_item(TableName=SealRecord.Meta.table_name, Item=row)


def row_of(part: str, number: int) -> dict[str, Any]:
    (item,) = SealRecord.stored_items(part, SealRecord.place == seal_place(number))
    return dict(item)


def seals_delete(*numbers: int) -> None:
    for number in numbers:
        for part in (SealRecord.PART, SealLeaves.PART):
            key = {"part": {"S": part}, "place": {"S": seal_place(number)}}
            shared_connection().client.delete_item(TableName=SealRecord.Meta.table_name, Key=key)


def edit(record: AuditRecord) -> None:
    """Change a sealed event."""
    (item,) = AuditRecord.stored_items(record.day, AuditRecord.entry == record.entry)
    item = {**item, "result": {"S": "edited"}}
    shared_connection().client.put_item(TableName=AuditRecord.Meta.table_name, Item=item)


def later_sealed(minutes: int = 10) -> int:
    """Seal an event of some minutes later."""
    with clock.shifted(timedelta(minutes=minutes)):
        write([event("job:later")])
        return seal_now()


def test_the_newest_seals_cannot_be_made_again_over_other_events(noon: None) -> None:
    """Someone deletes them and changes an event, so that the sweep would seal what is there now."""
    written = sealed_trail((2, 1, 2))
    seals = [seal_find(number) for number in (2, 3)]
    edit(written[2])
    seals_delete(2, 3)
    cache.clear()
    assert [later_sealed(10), later_sealed(20)] == [4, 1]
    assert [seal_find(number) for number in (2, 3)] == seals
    with clock.shifted(timedelta(minutes=30)):
        assert [(one.kind, one.event) for one in verified().findings] == [("edited", written[2].entry)]


def test_a_last_seal_that_someone_else_has_signed_is_not_continued(noon: None) -> None:
    """Otherwise the next seal, with the right key, would vouch for it."""
    sealed_trail((2, 1))
    key, seal = ed25519.Ed25519PrivateKey.generate(), seal_find(2)
    assert seal is not None
    pem, digest = key_pem(key.public_key()), key_digest(key.public_key())
    put({"part": {"S": SealKey.PART}, "place": {"S": digest}, "pem": {"S": pem}})
    statement = replace(seal.statement, key=digest)
    forged = {"statement": {"S": statement.text}, "signature": {"B": key.sign(statement.signed)}}
    put({**row_of(SealRecord.PART, 2), **forged})
    with pytest.raises(Unavailable, match="Seal 2 is signed by a key that is not known"):
        later_sealed()
    assert seal_find(3) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement", lambda text: text.replace('"through":"2026', '"through":"2099')),
        ("edge", lambda data: data[::-1]),
        ("statement", lambda _: "{}"),
    ],
)
def test_a_last_seal_that_was_changed_is_not_continued(noon: None, name: str, value: Callable[[Any], Any]) -> None:
    """A seal up to the year 2099 would end all sealing in silence."""
    sealed_trail((2,))
    row = row_of(SealRecord.PART, 1)
    ((kind, stored),) = row[name].items()
    put({**row, name: {kind: value(stored)}})
    with pytest.raises(Unavailable, match="not as it was sealed"):
        later_sealed()
    assert verified().findings[0].seal == 1


def test_a_clock_that_was_far_ahead_is_noticed(noon: None) -> None:
    with clock.shifted(timedelta(days=2)):
        sealed_trail((1,))
    with pytest.raises(Unavailable, match="ends in the future"):
        later_sealed()


def test_a_file_in_the_place_of_the_next_copy_stops_nothing_and_is_no_seal(noon: None) -> None:
    sealed_trail((2,))
    seal = seal_find(1)
    assert seal is not None
    forged = replace(seal, statement=replace(seal.statement, number=2, previous=seal.statement.digest))
    copy_storage().save_stream(copy_name(2), [copy_write(forged, leaves_find(1))])
    assert good().records == 2
    assert later_sealed() == 1
    assert good().records == 3


def test_copies_tell_a_trail_that_was_made_again_with_the_key(noon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker who can sign makes other seals that are right in themselves, and that are no copies of the first."""
    written = sealed_trail((1, 2, 1))
    edit(written[1])
    seals_delete(2, 3)
    cache.clear()
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "copy_find", lambda _: None)
        assert [later_sealed(10), later_sealed(20)] == [4, 1]
    with clock.shifted(timedelta(minutes=30)):
        assert [(one.kind, one.event, one.seal) for one in verified().findings] == [
            ("seal changed", written[1].entry, 2),
            ("edited", written[1].entry, 2),
            ("seal changed", written[3].entry, 3),
        ]
        write([event("job:more")])
        with pytest.raises(Unavailable, match="Object storage has another seal 3"):
            seal_now()
