"""Schedules over HTTP, and what the audit trail says of them."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from apps.accounts.policies import Permission
from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.jobs.selectors.runs import run_get
from apps.jobs.services import schedules_start
from apps.pipelines.selectors import schedule_find, schedule_get, schedule_times
from apps.pipelines.services import (
    MAX_SCHEDULES,
    pipeline_delete,
    pipeline_save,
    schedule_change,
    schedule_create,
    schedule_delete,
    schedule_pass,
    schedule_pause,
    schedule_resume,
    schedules,
)
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import every_order
from tests.pipelines.schedules import ID, scheduled

PATH = "/pipelines/self/schedules"
NIGHTLY = {"name": "nightly", "cron": "30 3 * * 1-5", "zone": "Europe/Berlin"}
PARAMETERS = """
parameters:
  depth: {type: number, default: 1}
  target: {type: choice, options: [all, some]}
jobs: {make: {steps: [{run: make}]}}
"""


@pytest.fixture(autouse=True)
def _pipeline(tables: None) -> None:
    saved(None)


def saved(definition: str | None, name: str = "self") -> None:
    pipeline_save(
        actor=ADMIN, name=name, repository="https://git.example.com/a.git", default_ref="main", definition=definition
    )


def events() -> list[tuple[str, Any]]:
    found = audit_search(target=f"schedule:{ID}").records
    return [(record.action, record.detail) for record in reversed(found)]


def test_a_schedule_is_made_read_changed_paused_resumed_and_deleted(operator: Client) -> None:
    made = operator.post(PATH, json=NIGHTLY)
    assert made.status_code == 201
    body = made.json()
    assert [time[14:19] for time in body["next_times"]] == ["30:00"] * 3
    assert operator.get(f"/schedules/{ID}").json() == body
    assert operator.get(PATH).json() == {"schedules": [body]}
    changed = operator.request("PATCH", f"/schedules/{ID}", json={"git_ref": "release", "only_if_changed": True}).json()
    assert (changed["git_ref"], changed["only_if_changed"], changed["cron"]) == ("release", True, NIGHTLY["cron"])
    # Again, that changes nothing and is not recorded.
    assert operator.request("PATCH", f"/schedules/{ID}", json={"git_ref": "release"}).json()["revision"] == 2
    for _ in range(2):
        paused = operator.post(f"/schedules/{ID}/pause").json()
        assert (bool(paused["paused_at"]), paused["next_times"]) == (True, [])
    # A change of a paused schedule does not start it.
    assert operator.request("PATCH", f"/schedules/{ID}", json={"cron": "0 4 * * *"}).json()["next_times"] == []
    for _ in range(2):
        resumed = operator.post(f"/schedules/{ID}/resume").json()
        assert (resumed["paused_at"], len(resumed["next_times"])) == (None, 3)
    assert operator.delete(f"/schedules/{ID}").status_code == 204
    problem(operator.delete(f"/schedules/{ID}"), 404, "schedule_not_found")
    described = {"cron": "0 4 * * *", "zone": "Europe/Berlin", "git_ref": "release"}
    described |= {"parameters": None, "only_if_changed": "yes"}
    assert events() == [
        ("schedule.created", described | {"cron": NIGHTLY["cron"], "git_ref": None, "only_if_changed": "no"}),
        ("schedule.changed", {"git_ref": "none → release", "only_if_changed": "no → yes"}),
        ("schedule.paused", None),
        ("schedule.changed", {"cron": "30 3 * * 1-5 → 0 4 * * *"}),
        ("schedule.resumed", None),
        ("schedule.deleted", described),
    ]


def test_the_last_run_is_shown_with_its_status_and_the_run_with_its_schedule(operator: Client) -> None:
    operator.post(PATH, json=NIGHTLY)
    with clock.shifted(timedelta(days=4)):
        assert schedules_start(seconds=9) == 1
        shown = operator.get(f"/schedules/{ID}").json()
        assert (shown["last_run_status"], shown["problem"]) == ("queued", None)
        run = operator.get(f"/runs/{shown['last_run_id']}").json()
        assert (run["event"], run["schedule_id"], run["unchanged_since"]) == ("schedule", ID, None)
        assert [one["run_id"] for one in operator.get("/runs?event=schedule").json()["runs"]] == [run["run_id"]]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": None}, "cron"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"name": "Nightly!"}, "name"),
        ({"name": ""}, "name"),
        ({"git_ref": "--upload-pack=x"}, "git_ref"),
        ({"parameters": {"depth": "deep"}}, "parameters.depth"),
        ({"parameters": {"nothing": 1}}, "parameters.nothing"),
        ({"parameters": {"target": [1]}}, "parameters.target"),
        ({"only_if_changed": "perhaps"}, "only_if_changed"),
        ({"every": "day"}, "every"),
    ],
)
def test_a_mistake_names_its_field(operator: Client, members: dict[str, Any], field: str) -> None:
    saved(PARAMETERS)
    answer = operator.post(PATH, json=NIGHTLY | members)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_parameters_reach_the_run_with_defaults_for_the_rest(operator: Client) -> None:
    saved(PARAMETERS)
    assert operator.post(PATH, json=NIGHTLY | {"parameters": {"target": "some"}}).status_code == 201
    with clock.shifted(timedelta(days=4)):
        assert schedules_start(seconds=9) == 1
    run = operator.get("/runs?event=schedule").json()["runs"][0]
    assert operator.get(f"/runs/{run['run_id']}").status_code == 200
    assert run_get(run["run_id"]).parameters == {"depth": 1, "target": "some"}


def test_a_name_is_taken_once_and_a_pipeline_has_so_many_schedules(monkeypatch: Any) -> None:
    scheduled()
    with pytest.raises(Conflict, match="already has a schedule nightly"):
        scheduled()
    monkeypatch.setattr(schedules, "MAX_SCHEDULES", 2)
    scheduled(name="second")
    with pytest.raises(Conflict) as error:
        scheduled(name="third")
    assert error.value.code == "too_many_schedules"
    # A deletion of the pipeline is one transaction of at most 100 operations.
    assert MAX_SCHEDULES + 2 <= 100


def test_of_two_users_who_change_it_at_once_the_second_one_hears_of_it() -> None:
    seen = scheduled()
    schedule_change(actor=OPERATOR, schedule_id=ID, zone="Asia/Tokyo", revision=int(seen.revision))
    with pytest.raises(Conflict) as error:
        schedule_change(actor=OPERATOR, schedule_id=ID, zone="UTC", revision=int(seen.revision))
    assert error.value.code == "changed_meanwhile"
    assert schedule_get(ID).zone == "Asia/Tokyo"


def test_who_may_save_pipelines_and_start_no_runs_makes_no_schedule() -> None:
    scheduled()
    token = Actor("token", "01kat", "deploy", frozenset({Permission.PIPELINES_SAVE.value}))
    with pytest.raises(Forbidden, match=r"jobs\.create"):
        schedule_create(actor=token, pipeline="self", name="sly", cron="* * * * *")
    schedule_pause(actor=token, schedule_id=ID)
    for act in (partial(schedule_change, cron="* * * * *"), schedule_resume):
        with pytest.raises(Forbidden, match=r"jobs\.create"):
            act(actor=token, schedule_id=ID)


def test_a_pipeline_whose_name_begins_like_another_has_its_own_schedules(operator: Client) -> None:
    saved(None, name="self-2")
    scheduled()
    scheduled("self-2", name="weekly")
    assert [one["name"] for one in operator.get(PATH).json()["schedules"]] == ["nightly"]
    problem(operator.get("/pipelines/nothing/schedules"), 404, "pipeline_not_found")
    problem(operator.post("/pipelines/nothing/schedules", json=NIGHTLY), 404, "pipeline_not_found")


def test_a_time_that_starts_no_run_is_passed_once_and_the_next_one_is_due() -> None:
    read = scheduled(cron="0 3 * * *")
    stale, following = schedule_get(ID), clock.parse_timestamp(read.due_at) + timedelta(days=1)
    schedule_pass(read, problem="a reason", following=following)
    passed = schedule_get(ID)
    assert (passed.problem, passed.last_due_at, passed.due) == ("a reason", read.due_at, "due")
    assert passed.due_at == clock.timestamp(following)
    schedule_pass(stale, problem="another sweep was faster", following=None)
    assert schedule_get(ID).problem == "a reason"
    # A schedule without a further time is due no more.
    schedule_pass(passed, problem="no time", following=None)
    ended = schedule_get(ID)
    assert (ended.problem, ended.due, ended.due_at, schedule_times(ended)) == ("no time", None, None, [])


def test_the_schedule_of_a_pipeline_that_is_gone_is_deleted_by_the_system() -> None:
    orphan = scheduled()
    pipeline_delete(actor=ADMIN, name="self")
    # As one that was made at the moment of the deletion.
    orphan.save()
    schedule_pass(orphan, problem="There is no pipeline.", following=None)
    assert schedule_find(ID) is None
    (deleted,) = audit_search(target=f"schedule:{ID}", action=Action.SCHEDULE_DELETED).records
    assert (deleted.actor_kind, deleted.detail["reason"]) == ("system", "its pipeline is deleted")


def test_of_two_deletions_at_once_one_is_recorded(emulator: str) -> None:
    scheduled()
    prepared = items_read(emulator)
    for order in every_order():
        items_replace(emulator, prepared)
        delete = partial(schedule_delete, actor=ADMIN, schedule_id=ID)
        assert {*order.race(delete, delete)} == {None, "schedule_not_found"}
        assert [action for action, _ in events()] == ["schedule.created", "schedule.deleted"]
