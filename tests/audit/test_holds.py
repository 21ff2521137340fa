"""Legal holds: what stays although it expires."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.canonical import canonical_bytes, canonical_record
from apps.audit.models import AuditRecord, HeldEvents, Hold
from apps.audit.selectors import audit_search
from apps.audit.selectors.holds import hold_get
from apps.audit.selectors.trail import TrailSearch
from apps.audit.services import holds
from apps.audit.services.holds import hold_place, hold_release, holds_copy
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.expiry import expired_delete
from tests.audit.trail import BUILDER, event, whole, write
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR, person
from tests.faults.injection import Fault, fault
from tests.metering import dynamodb_calls

JOB = "job:01kjob0000000000000000000a"


@pytest.fixture(autouse=True)
def _tables(tables: None) -> None:
    """Empty tables."""


@pytest.fixture
def retention(settings: Any) -> None:
    settings.AUDIT_RETENTION = {"job.": "100", "job.created": "40"}


def copy(after: timedelta = timedelta(hours=2)) -> int:
    with clock.shifted(after):
        return holds_copy(seconds=10)


def expire(days: int) -> None:
    """So many days later, DynamoDB has deleted what has expired."""
    with clock.shifted(timedelta(days=days)):
        list(expired_delete())


def held(client: Client, hold: Hold) -> list[str]:
    answer = client.get(f"/audit/holds/{hold.hold_id}/events")
    assert answer.status_code == 200, answer.text
    return answer.text.splitlines()


@pytest.mark.usefixtures("retention")
def test_an_event_under_a_legal_hold_stays_verifiable_after_it_has_expired(server: str) -> None:
    before, other = write([event(JOB), event("job:other")])
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    (after,) = write([event(JOB, action=Action.JOB_FINISHED)])
    assert copy() == 2
    expire(days=200)
    assert AuditRecord.find(before.day, before.entry) is None
    assert AuditRecord.find(other.day, other.entry) is None
    lines = held(person(server, "auditor"), hold)
    assert lines == [canonical_bytes(canonical_record(found.serialize())).decode() for found in (before, after)]
    assert int(hold_get(str(hold.hold_id)).copies) == 2
    (read,) = audit_search(target=f"hold:{hold.hold_id}", action=Action.AUDIT_EXPORTED).records
    assert (read.actor_kind, read.detail) == ("token", {"copies": 2})


@pytest.mark.usefixtures("retention")
@pytest.mark.parametrize("held_by", ["target", "actor", "action", "time", "everything"])
def test_a_hold_is_of_a_target_an_actor_an_action_or_a_time(server: str, held_by: str) -> None:
    with clock.shifted(timedelta(days=-3)):
        write([event("job:before", action=Action.JOB_CANCELLED)])
    with clock.shifted(timedelta(days=-2)):
        day = clock.now().date()
        write([event(JOB, actor=BUILDER, action=Action.JOB_STARTED)])
    write([event("job:after", actor=SYSTEM)])
    what: dict[str, Any] = {
        "target": {"search": TrailSearch(target=JOB)},
        "actor": {"search": TrailSearch(actor=f"agent:{BUILDER.id}")},
        "action": {"search": TrailSearch(action="job.started")},
        "time": {"first": day, "last": day},
        "everything": {"first": day - timedelta(days=2)},
    }
    hold = hold_place(actor=ADMIN, reason="case 7", **what[held_by])
    copy()
    found = [json.loads(line)["target"] for line in held(person(server, "auditor"), hold)]
    assert found == (["job:before", JOB, "job:after"] if held_by == "everything" else [JOB])


@pytest.mark.usefixtures("retention")
def test_what_was_copied_is_not_copied_again_also_after_a_crash(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "PACK_EVENTS", 3)
    write(event(JOB, detail={"n": number}) for number in range(7))
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    with monkeypatch.context() as crashing:
        crashing.setattr(Hold, "update", lambda *_, **__: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            copy()
    assert copy() == 7
    assert copy() == 0
    lines = held(person(server, "auditor"), hold)
    assert [json.loads(json.loads(line)["detail"])["n"] for line in lines] == list(range(7))


@pytest.mark.usefixtures("retention")
def test_what_was_recorded_after_a_crash_is_copied_too(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(event(JOB, detail={"n": number}) for number in range(2))
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    with monkeypatch.context() as crashing:
        crashing.setattr(Hold, "update", lambda *_, **__: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            copy()
    write(event(JOB, detail={"n": number}) for number in range(2, 5))
    assert copy() == 5
    lines = held(person(server, "auditor"), hold)
    assert [json.loads(json.loads(line)["detail"])["n"] for line in lines] == list(range(5))


@pytest.mark.usefixtures("retention")
def test_two_sweeps_at_once_copy_each_event_once(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(event(JOB, detail={"n": number}) for number in range(3))
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    inner: list[int] = []
    save = HeldEvents.save

    def saved(pack: HeldEvents, **options: Any) -> Any:
        # Before the first sweep has written its copies, another one does.
        patched.setattr(HeldEvents, "save", save)
        inner.append(copy())
        return save(pack, **options)

    with monkeypatch.context() as patched:
        patched.setattr(HeldEvents, "save", saved)
        assert copy() == 0
    assert inner == [3]
    assert len(held(person(server, "auditor"), hold)) == 3
    assert int(hold_get(str(hold.hold_id)).copies) == 3


@pytest.mark.usefixtures("retention")
def test_no_copy_is_missed_whichever_answer_of_the_database_is_lost(server: str) -> None:
    auditor = person(server, "auditor")
    write(event(JOB, detail={"n": number}) for number in range(3))
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    with fault(None) as counted:
        copy()
    for call in range(len(counted.operations)):
        hold_release(actor=ADMIN, hold_id=str(hold.hold_id))
        hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
        with fault(Fault.LOST, call=call, lasting=True) as injected, suppress(Unavailable):
            copy()
        assert injected.hit
        copy()
        assert (len(held(auditor, hold)), int(hold_get(str(hold.hold_id)).copies)) == (3, 3)


def test_events_that_never_expire_are_not_copied() -> None:
    write([event(JOB)])
    hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    assert copy() == 0


def test_without_a_hold_a_minute_costs_one_read() -> None:
    with dynamodb_calls() as counted:
        assert holds_copy(seconds=1) == 0
    assert counted.operations == ["Query"]


@pytest.mark.usefixtures("retention")
def test_a_released_hold_copies_nothing_more_and_keeps_its_copies(server: str) -> None:
    write([event(JOB)])
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    copy()
    released = hold_release(actor=ADMIN, hold_id=str(hold.hold_id))
    assert released.released_by == "admin"
    assert hold_release(actor=ADMIN, hold_id=str(hold.hold_id)).released_at == released.released_at
    write([event(JOB)])
    assert copy(timedelta(hours=5)) == 0
    assert len(held(person(server, "auditor"), hold)) == 1


def test_holds_are_recorded_in_the_trail() -> None:
    hold = hold_place(actor=ADMIN, reason="case 7", search=TrailSearch(target=JOB))
    hold_release(actor=ADMIN, hold_id=str(hold.hold_id))
    hold_release(actor=ADMIN, hold_id=str(hold.hold_id))
    found = whole(target=f"hold:{hold.hold_id}")
    assert [record.action for record in found] == ["audit.hold_released", "audit.hold_placed"]
    assert {"reason": "case 7", "of_target": JOB}.items() <= found[1].detail.items()


def test_only_an_admin_places_and_releases_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = hold_place(actor=ADMIN, reason="case 7")
    with pytest.raises(Forbidden):
        hold_place(actor=OPERATOR, reason="x")
    with pytest.raises(Forbidden):
        hold_release(actor=OPERATOR, hold_id=str(hold.hold_id))
    for reason in ("", "  ", "x" * 201):
        with pytest.raises(InvalidInput, match="reason"):
            hold_place(actor=ADMIN, reason=reason)
    monkeypatch.setattr(holds, "MOST_HOLDS", 1)
    with pytest.raises(Conflict, match="Release one"):
        hold_place(actor=ADMIN, reason="case 8")


def test_the_api_places_lists_and_releases_holds(admin: Client) -> None:
    body = {"reason": "case 7", "actor": "system", "from": "2026-11-01", "to": "2026-11-30"}
    placed = admin.post("/audit/holds", json=body)
    assert placed.status_code == 201, placed.text
    found = placed.json()
    assert (found["reason"], found["actor"], found["since"], found["until"]) == (
        *("case 7", "system", "2026-11-01", "2026-11-30"),
    )
    assert [hold["hold_id"] for hold in admin.get("/audit/holds").json()["holds"]] == [found["hold_id"]]
    released = admin.post(f"/audit/holds/{found['hold_id']}/release").json()
    assert released["released_at"]
    problem(admin.post(f"/audit/holds/{new_id()}/release"), 404, "hold_not_found")
    problem(admin.post("/audit/holds", json={}), 400, "invalid_input")
