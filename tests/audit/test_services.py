"""What an audit event records, that it is written only together with its act, and that no key of it is hot."""

import json
from collections import Counter
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.models import SHARDS, AuditRecord, entry_partition
from apps.audit.selectors import audit_list
from apps.audit.services import audit_add, audit_event
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed
from tests.audit.trail import ADA, STRANGER
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")


def record_act(target: str = "job:01kjob0000000000000000000a", **more: Any) -> None:
    tx = Transaction()
    audit_add(tx, actor=ADA, action=Action.JOB_CREATED, target=target, **more)
    tx.commit()


def today() -> str:
    return clock.timestamp(clock.now())[:10]


def test_a_record_says_who_did_what_on_what_when_and_with_which_result() -> None:
    before = clock.timestamp(clock.now())
    record_act(detail={"git_ref": "main", "priority": 50, "retry_of": None})
    (record,) = audit_list(day=today()).records
    assert (record.actor_kind, record.actor_id, record.actor_name) == ("user", ADA.id, "Ada Lovelace")
    assert (record.action, record.target, record.result) == ("job.created", "job:01kjob0000000000000000000a", "ok")
    assert record.detail == {"git_ref": "main", "priority": 50, "retry_of": None}
    assert before <= record.at <= clock.timestamp(clock.now())


def test_a_usual_record_costs_two_write_units() -> None:
    with dynamodb_calls() as counted:
        record_act(detail={"git_ref": "feature/" + "x" * 60, "pipeline": "self", "run_id": new_id()})
    assert counted.operations == ["TransactWriteItems"]
    assert counted.write_units == 2


def test_no_record_grows_with_what_a_client_sends() -> None:
    record_act(target="pipeline:" + "x" * 5000, result="y" * 5000, detail={"git_ref": "ü" * 50_000})
    (record,) = audit_list(day=today()).records
    assert record.target.endswith("x…")
    assert len(json.dumps(record.to_simple_dict())) < 3000


def test_a_text_of_200_characters_is_whole_and_a_longer_one_is_cut_to_200() -> None:
    record_act(target="pipeline:" + "x" * 191, result="y" * 201)
    (record,) = audit_list(day=today()).records
    assert record.target == "pipeline:" + "x" * 191
    assert record.result == "y" * 199 + "…"


def test_text_that_cannot_be_encoded_is_no_error() -> None:
    record_act(target="pipeline:\ud800", detail={"git_ref": "\ud800"})
    assert [record.target for record in audit_list(day=today()).records] == ["pipeline:?"]


def test_more_details_than_a_record_takes_are_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at most"):
        record_act(detail={f"field {number}": number for number in range(50)})


def test_without_its_act_there_is_no_record() -> None:
    existing = AuditRecord(day="2026-01-01", entry="x", actor_kind="", actor_id="", actor_name="", action="", target="")
    existing.result = "ok"
    existing.save()
    tx = Transaction()
    audit_add(tx, actor=SYSTEM, action=Action.JOB_CREATED, target="job:x")
    tx.put("act", existing)
    with pytest.raises(TransactionFailed):
        tx.commit()
    assert audit_list(day=today()).records == []


def test_a_transaction_may_record_two_acts() -> None:
    tx = Transaction()
    audit_add(tx, actor=ADA, action=Action.JOB_CANCELLED, target="job:x")
    audit_add(tx, actor=SYSTEM, action=Action.JOB_FINISHED, target="job:x", label="audit finish")
    tx.commit()
    assert {record.action for record in audit_list(day=today()).records} == {"job.cancelled", "job.finished"}


def test_a_record_is_never_overwritten() -> None:
    record_act()
    (record,) = audit_list(day=today()).records
    record.result = "changed"
    tx = Transaction()
    tx.put("again", record)
    with pytest.raises(TransactionFailed):
        tx.commit()


def test_the_vocabulary_is_of_subjects_and_acts() -> None:
    assert all(action.value.count(".") == 1 and action.value.islower() for action in Action)


def write_units(events: list[AuditRecord]) -> Counter[tuple[str, str]]:
    """The write units of these events by table or index, and key: two an event in a transaction, one an entry."""
    units: Counter[tuple[str, str]] = Counter()
    for event in events:
        units["audit", event.day] += 2
        units["by_target", event.about] += 1
        units["by_actor", event.actor_key] += 1
        units["by_action", event.action_key] += 1
    return units


@pytest.mark.parametrize(
    ("actor", "action", "target"),
    [
        (SYSTEM, Action.JOB_REQUEUED, "job:{}"),
        (STRANGER, Action.USER_SIGN_IN_FAILED, "email:unknown"),
        (STRANGER, Action.USER_SIGN_IN_FAILED, "email:ada@example.com"),
    ],
)
def test_1000_acts_a_second_use_a_third_of_what_a_key_takes(actor: Actor, action: Action, target: str) -> None:
    """Of one actor and one action, as when the sweep requeues a lost region, or strangers try passwords."""
    events = [audit_event(actor=actor, action=action, target=target.format(number)) for number in range(1_000)]
    assert max(write_units(events).values()) < 1_000 / 3


def test_the_first_shard_of_a_day_has_the_key_of_earlier_versions() -> None:
    events = [audit_event(actor=ADA, action=Action.JOB_CREATED, target="job:x") for _ in range(200)]
    assert {event.day for event in events} == {today(), *(f"{today()}#{shard}" for shard in range(1, SHARDS))}
    assert all(event.at.startswith(today()) for event in events)
    assert all(entry_partition(event.entry) == event.day for event in events)
    assert {event.entry.count("#") for event in events if event.day == today()} == {1}


def test_the_entries_of_the_first_shard_look_like_those_of_earlier_versions() -> None:
    assert entry_partition("2026-11-21T09:00:00.000000Z#01kada0000000000000000000a") == "2026-11-21"


def test_a_persons_target_and_actor_have_one_key_each() -> None:
    events = [audit_event(actor=ADA, action=Action.JOB_CREATED, target="job:x") for _ in range(50)]
    assert {event.about for event in events} == {"job:x"}
    assert {event.actor_key for event in events} == {f"user:{ADA.id}"}


def test_the_acts_of_an_api_token_are_with_those_of_its_owner() -> None:
    token = Actor("token", "01ktoken000000000000000000", "ci (ada@example.com)", owner_id=ADA.id)
    event = audit_event(actor=token, action=Action.JOB_CREATED, target="job:x")
    assert (event.actor_kind, event.actor_id) == ("token", token.id)
    assert event.actor_key == event.principal == f"user:{ADA.id}"
