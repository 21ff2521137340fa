"""The trail: what an audit event records, and that it is written only together with its act."""

import json
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")

ADA = Actor("user", "01kada0000000000000000000a", "Ada Lovelace", frozenset({"jobs.create"}))


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


def test_a_day_is_read_newest_first_and_page_by_page() -> None:
    for number in range(5):
        record_act(target=f"job:{number}")
    first = audit_list(day=today(), limit=2)
    second = audit_list(day=today(), limit=2, cursor=first.next_cursor)
    third = audit_list(day=today(), limit=2, cursor=second.next_cursor)
    pages = [[record.target for record in page.records] for page in (first, second, third)]
    assert pages == [["job:4", "job:3"], ["job:2", "job:1"], ["job:0"]]
    assert third.next_cursor is None


def test_each_day_has_its_own_records() -> None:
    with clock.shifted(timedelta(days=-1)):
        record_act(target="job:yesterday")
    record_act(target="job:today")
    assert [record.target for record in audit_list(day=today()).records] == ["job:today"]


def test_the_cursor_of_another_day_is_refused() -> None:
    for _ in range(2):
        record_act()
    cursor = audit_list(day=today(), limit=1).next_cursor
    with pytest.raises(InvalidInput) as refused:
        audit_list(day="2020-01-01", cursor=cursor)
    assert refused.value.code == "invalid_cursor"


def test_the_vocabulary_is_of_subjects_and_acts() -> None:
    assert all(action.value.count(".") == 1 and action.value.islower() for action in Action)
