"""Reports of an agent about its attempt: start, pipeline file and end, each once, in time, late or too late."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.cache import cache

from apps.agents.models import Heartbeat
from apps.jobs.models import FIRST_NODE, Job, LogChunk
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.selectors.runs import run_get
from apps.jobs.services import (
    AttemptResult,
    FileReport,
    JobPlace,
    attempt_define,
    attempt_expire,
    attempt_finish,
    attempt_start,
    job_cancel,
    jobs_claim,
    leases_expire,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, NotFound
from controlplane.lib.ids import new_id
from controlplane.lib.work import Work, at_work
from controlplane.nosql.transaction import TransactionFailed
from tests.clients import problem
from tests.conftest import ADMIN
from tests.interleaving import before_call, every_order
from tests.jobs.conftest import MakeAgent, changes, event_of, stored_job, stored_lease
from tests.metering import dynamodb_calls
from tests.polling import polled
from tests.properties.consistency import Everything
from tests.signing import AgentClient

TEXT = "timeout: 5m\nretries: 1\nsteps: [{name: build, run: make}]"
STEP = {"name": "lint", "state": "completed"}


def result(exit_code: int | None = 0, error_message: str | None = None, **members: Any) -> AttemptResult:
    values = {"steps": [], "log_chunks": 3, "commit": None, **members}
    return AttemptResult(exit_code=exit_code, error_message=error_message, **values)


@pytest.fixture
def machine(make_agent: MakeAgent) -> Actor:
    return make_agent()


@pytest.fixture
def assigned(make_job: Callable[..., str], machine: Actor) -> Callable[..., str]:
    """Makes a job that the machine has claimed."""

    def make(**members: object) -> str:
        job_id = make_job(**members)
        assert claim(machine) == [(job_id, 1)]
        return job_id

    return make


@pytest.fixture
def running(assigned: Callable[..., str], machine: Actor) -> Callable[..., str]:
    """Makes a job that the machine runs, in attempt 1."""

    def make(**members: object) -> str:
        job_id = assigned(**members)
        attempt_start(agent=machine, job_id=job_id, attempt=1)
        return job_id

    return make


@pytest.fixture
def own(pipeline: str) -> str:
    """A pipeline whose definition is in its repository."""
    repository = "https://git.example.com/own.git"
    pipeline_save(actor=ADMIN, name="own", repository=repository, default_ref="main", definition=None)
    return "own"


def claim(agent: Actor) -> list[tuple[str, int]]:
    sets = queue_registry().sets_for(())
    return [(claimed.job_id, claimed.attempt) for claimed in jobs_claim(agent=agent, sets=sets, limit=1)]


def lose(agent: Actor, job_id: str, attempt: int = 1) -> bool:
    return attempt_expire(agent_id=agent.id, job_id=job_id, attempt=attempt, heartbeat_at=None, reason="it is silent")


def define(agent: Actor, job_id: str, attempt: int = 1, text: str = TEXT, commit: str | None = "c") -> Any:
    report = FileReport(commit=commit, text=text)
    return attempt_define(agent=agent, agent_labels=[], job_id=job_id, attempt=attempt, report=report)


def finish(agent: Actor, job_id: str, attempt: int = 1, **members: Any) -> bool:
    return attempt_finish(agent=agent, job_id=job_id, attempt=attempt, result=result(**members))


def place_of(job_id: str) -> JobPlace:
    """The place in its run that the job's agent got at the start."""
    return JobPlace(str(Job.get(job_id).run_id), FIRST_NODE)


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises((Conflict, NotFound)) as refusal:
        act()
    return str(refusal.value.code)


# --- an agent that names an old attempt -----------------------------------------------------------------------------


def test_an_agent_that_names_an_old_attempt_of_a_job_that_it_has_again_changes_nothing(
    agent: AgentClient, make_job: Callable[..., str]
) -> None:
    """The agent lost attempt 1, and has got attempt 2 of the same job itself."""
    job_id = make_job()
    old = agent.take()
    with polled(50):
        assert leases_expire() == 1
        (new,) = agent.heartbeat()["jobs"]
        assert new == {"job_id": job_id, "attempt": 2}
        for is_started in (False, True):
            if is_started:
                assert agent.start(new).status_code == 200
            found = stored_job(job_id)
            cache.clear()
            for answer in (agent.start(old), agent.define(old, TEXT), agent.log(old, 0, b"x"), agent.finish(old)):
                problem(answer, 409, "stale_attempt")
            problem(agent.finish(old, agent_fault="The disk is full."), 409, "stale_attempt")
            assert stored_job(job_id) == found
        assert LogChunk.count(f"{job_id}#1") == 0
        assert agent.heartbeat(running=[old, new], free_slots=0)["wishes"] == [{**old, "wish": "abandon"}]
        assert (stored_job(job_id)["status"], stored_job(job_id)["attempt"]) == ("running", 2)
        assert Everything.read().inconsistencies() == []


def test_a_heartbeat_that_names_only_the_old_attempt_does_not_keep_the_new_one(
    agent: AgentClient, make_job: Callable[..., str]
) -> None:
    job_id = make_job()
    old = agent.take()
    with polled(50):
        leases_expire()
        new = agent.take()
        assert new["attempt"] == 2
        with clock.shifted(timedelta(seconds=46)):
            assert agent.heartbeat(running=[old], free_slots=0)["wishes"] == [{**old, "wish": "abandon"}]
        job = stored_job(job_id)
    assert (job["status"], job["attempt"], job["lost_attempts"]) == ("queued", 2, 2)


def test_an_agent_that_has_lost_two_attempts_may_report_late_about_the_second_only(
    agent: AgentClient, make_job: Callable[..., str]
) -> None:
    job_id = make_job()
    old = agent.take()
    with polled(50):
        leases_expire()
        second = agent.take()
        with polled(50):
            assert leases_expire() == 1
            found = stored_job(job_id)
            assert (found["status"], found["lost_agent_id"], found["attempt"]) == ("queued", agent.agent_id, 2)
            cache.clear()
            for answer in (agent.start(old), agent.define(old, TEXT), agent.log(old, 0, b"x"), agent.finish(old)):
                problem(answer, 409, "stale_attempt")
            problem(agent.finish(old, agent_fault="The disk is full."), 409, "stale_attempt")
            assert agent.heartbeat(running=[old, second], free_slots=0)["wishes"] == [{**old, "wish": "abandon"}]
            assert stored_job(job_id)["status"] == "running"
            assert agent.finish(second).status_code == 200
    assert (stored_job(job_id)["status"], stored_job(job_id)["attempt"]) == ("completed", 2)


@pytest.mark.parametrize("is_started", [False, True])
def test_a_report_about_another_attempt_or_by_another_agent_is_stale(
    assigned: Callable[..., str], machine: Actor, make_agent: MakeAgent, is_started: bool
) -> None:
    job_id = assigned()
    if is_started:
        attempt_start(agent=machine, job_id=job_id, attempt=1)
    found = stored_job(job_id)
    for agent, attempt in ((machine, 2), (make_agent(), 1)):
        for act in (attempt_start, partial(define, agent), partial(finish, agent)):
            arguments = {"agent": agent} if act is attempt_start else {}
            assert code_of(partial(act, **arguments, job_id=job_id, attempt=attempt)) == "stale_attempt"
    assert stored_job(job_id) == found


def test_a_report_about_a_job_that_never_was_is_refused(machine: Actor, pipeline: str) -> None:
    for act in (partial(attempt_start, agent=machine), partial(define, machine), partial(finish, machine)):
        assert code_of(partial(act, job_id=new_id(), attempt=1)) == "job_not_found"


# --- start ----------------------------------------------------------------------------------------------------------


def test_a_start_returns_the_job_and_is_in_the_trail(assigned: Callable[..., str], machine: Actor) -> None:
    job_id = assigned()
    job = attempt_start(agent=machine, job_id=job_id, attempt=1)
    assert job.job_id == job_id
    assert stored_job(job_id)["status"] == "running"
    assert event_of(job_id, "job.started") == {"actor": machine.id, "result": "ok", "detail": {"attempt": 1}}


def test_a_start_that_is_sent_twice_at_once_starts_once(assigned: Callable[..., str], machine: Actor) -> None:
    for order in every_order():
        job_id = assigned()
        start = partial(attempt_start, agent=machine, job_id=job_id, attempt=1)
        started = order.race(start, start)
        assert [job.job_id for job in started if isinstance(job, Job)] == [job_id, job_id]
        assert event_of(job_id, "job.started")
        with dynamodb_calls() as metering:
            assert start().status == "running"
        assert metering.operations == ["GetItem"]


def test_a_start_of_an_attempt_that_keeps_being_offered_but_cannot_start_is_stale(
    assigned: Callable[..., str], machine: Actor
) -> None:
    """Its lease is gone, as after a restore."""
    job_id = assigned()
    Heartbeat(machine.id).update(actions=[Heartbeat.lease_map[job_id].remove()])
    assert code_of(partial(attempt_start, agent=machine, job_id=job_id, attempt=1)) == "stale_attempt"


# --- the repository's pipeline file ---------------------------------------------------------------------------------


def test_a_file_that_asks_for_labels_that_the_agent_lacks_moves_the_job(
    running: Callable[..., str], machine: Actor, own: str
) -> None:
    job_id = running(pipeline=own)
    text = f"labels: [gpu]\n{TEXT}"
    assert code_of(partial(define, machine, job_id, text=text)) == "job_moved"
    assert (Job.get(job_id).status, Job.get(job_id).labels) == ("queued", ["gpu"])
    assert code_of(partial(define, machine, job_id, text=text)) == "stale_attempt"


def test_a_pipeline_file_sets_the_steps_the_limit_and_the_retries_of_the_job(
    running: Callable[..., str], machine: Actor, own: str, now: str
) -> None:
    job_id = running(pipeline=own)
    found = stored_job(job_id)
    with clock.shifted(timedelta(seconds=9)):
        assert define(machine, job_id)["timeout"] == 300
    changed = changes(found, stored_job(job_id))
    del changed["steps"]
    assert changed == {"commit": "c", "defined_attempt": 1, "retries": 1, "timeout": 300}
    assert Job.get(job_id).steps == [{"name": "build", "state": "pending"}]
    assert stored_lease(machine.id, job_id) == {"attempt": 1, "at": now, "started": True, "limit": 300}
    detail = {"commit": "c", "labels": "", "retries": 1, "timeout": 300}
    assert event_of(job_id, "job.defined") == {"actor": machine.id, "result": "ok", "detail": detail}


def test_a_pipeline_file_without_a_commit_keeps_the_one_that_is_known(
    running: Callable[..., str], machine: Actor, own: str
) -> None:
    job_id = running(pipeline=own)
    Job(job_id).update(actions=[Job.commit.set("known")])
    define(machine, job_id, commit=None)
    assert stored_job(job_id)["commit"] == "known"


def test_a_pipeline_file_that_is_sent_twice_at_once_counts_once(
    running: Callable[..., str], machine: Actor, own: str
) -> None:
    for order in every_order():
        job_id = running(pipeline=own)
        first, second = order.race(partial(define, machine, job_id), partial(define, machine, job_id))
        assert first == second
        assert isinstance(first, dict)
        assert event_of(job_id, "job.defined")
        found = stored_job(job_id)
        # Once more, with another content: what was reported first counts.
        assert define(machine, job_id, text="steps: [{run: other}]")
        assert stored_job(job_id) == found


def test_each_attempt_reports_the_pipeline_file_anew(running: Callable[..., str], machine: Actor, own: str) -> None:
    job_id = running(pipeline=own)
    define(machine, job_id)
    lose(machine, job_id)
    assert claim(machine) == [(job_id, 2)]
    attempt_start(agent=machine, job_id=job_id, attempt=2)
    define(machine, job_id, 2, text="steps: [{name: other, run: make}]")
    assert (stored_job(job_id)["defined_attempt"], Job.get(job_id).steps[0]["name"]) == (2, "other")


def test_a_pipeline_file_while_the_attempt_is_lost_counts_or_is_stale(
    running: Callable[..., str], machine: Actor, own: str
) -> None:
    outcomes = set()
    for order in every_order():
        job_id = running(pipeline=own)
        defined, lost = order.race(partial(define, machine, job_id), partial(lose, machine, job_id))
        assert lost is True
        is_defined = "defined_attempt" in stored_job(job_id)
        assert is_defined is (defined != "stale_attempt")
        outcomes.add(is_defined)
        job_cancel(actor=ADMIN, job_id=job_id)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "changed", [Job.status.set("completed"), Job.attempt.add(1), Job.agent_id.set("another"), None]
)
def test_a_pipeline_file_of_a_job_that_changes_meanwhile_is_stale(
    running: Callable[..., str], machine: Actor, own: str, changed: Any
) -> None:
    job_id = running(pipeline=own)

    def change() -> None:
        if changed is None:
            Heartbeat(machine.id).update(actions=[Heartbeat.lease_map[job_id].remove()])
        else:
            Job(job_id).update(actions=[changed])

    with before_call(change, operations=frozenset({"TransactWriteItems"})):
        assert code_of(partial(define, machine, job_id)) == "stale_attempt"
    assert "defined_attempt" not in stored_job(job_id)


# --- finish ---------------------------------------------------------------------------------------------------------


def test_a_finish_needs_no_read_and_writes_what_the_agent_reports(
    running: Callable[..., str], machine: Actor, now: str
) -> None:
    job_id = running()
    Heartbeat(machine.id).update(actions=[Heartbeat.faults.set(2)])
    found, place = stored_job(job_id), place_of(job_id)
    with dynamodb_calls() as metering:
        assert finish(machine, job_id, place=place, exit_code=0, error_message="no", steps=[STEP], commit="d") is True
    assert metering.operations == ["TransactWriteItems"]
    changed = changes(found, stored_job(job_id))
    del changed["outcome"], changed["steps"]
    assert changed == {
        "status": "failed",
        "completed_at": now,
        "exit_code": 0,
        "error_message": "no",
        "log_chunks": 3,
        "commit": "d",
    }
    assert Job.get(job_id).steps == [STEP]
    assert (stored_lease(machine.id, job_id), Heartbeat.get(machine.id).faults) == (None, 0)
    detail = {"attempt": 1, "exit_code": 0}
    assert event_of(job_id, "job.finished") == {"actor": machine.id, "result": "failed", "detail": detail}


def test_a_finish_with_an_exit_code_reads_the_job_since_it_may_ask_for_another_attempt(
    running: Callable[..., str], machine: Actor
) -> None:
    job_id = running()
    with dynamodb_calls() as metering:
        assert finish(machine, job_id, exit_code=7) is True
    assert metering.operations == ["GetItem", "TransactWriteItems"]


def test_what_a_report_lacks_stays_as_it_is(running: Callable[..., str], machine: Actor) -> None:
    job_id = running()
    Job(job_id).update(actions=[Job.commit.set("known")])
    steps = Job.get(job_id).steps
    finish(machine, job_id, exit_code=None, log_chunks=0)
    job = Job.get(job_id)
    assert (job.status, job.exit_code, job.commit, job.log_chunks, job.steps) == ("failed", None, "known", 0, steps)


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"exit_code": 0}, "completed"),
        ({"exit_code": 0, "error_message": "no"}, "failed"),
        ({"exit_code": 1}, "failed"),
        ({"exit_code": 1, "steps": [{"name": "lint", "state": "timed_out"}]}, "timed_out"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_the_report_decides_the_end_also_when_it_is_late(
    running: Callable[..., str], machine: Actor, members: dict[str, Any], status: str, is_late: bool
) -> None:
    job_id = running()
    if is_late:
        lose(machine, job_id)
    assert finish(machine, job_id, **members) is True
    assert stored_job(job_id)["status"] == status
    assert Everything.read().inconsistencies() == []


def test_a_finish_that_is_repeated_changes_nothing(running: Callable[..., str], machine: Actor) -> None:
    job_id = running()
    assert finish(machine, job_id) is True
    found = stored_job(job_id)
    assert finish(machine, job_id, exit_code=1) is False
    assert stored_job(job_id) == found


def test_a_job_with_a_cancel_request_ends_as_cancelled_unless_its_attempt_succeeded(
    running: Callable[..., str], machine: Actor
) -> None:
    for exit_code, status in ((1, "cancelled"), (0, "completed")):
        job_id = running()
        job_cancel(actor=ADMIN, job_id=job_id)
        assert finish(machine, job_id, exit_code=exit_code) is True
        assert stored_job(job_id)["status"] == status


def test_a_finish_of_an_offered_attempt_is_stale(assigned: Callable[..., str], machine: Actor) -> None:
    job_id = assigned()
    assert code_of(partial(finish, machine, job_id)) == "stale_attempt"
    assert stored_job(job_id)["status"] == "assigned"


@pytest.mark.parametrize(
    ("retries", "action"), [(2, "job.finished"), (0, "job.outcome_replaced")], ids=["queued", "failed"]
)
def test_a_late_finish_counts_in_place_of_the_loss(
    make_job: Callable[..., str], pipeline: str, machine: Actor, retries: int, action: str
) -> None:
    repository, definition = "https://git.example.com/app.git", f"retries: {retries}\nsteps: [{{run: make}}]"
    pipeline_save(actor=ADMIN, name="some", repository=repository, default_ref="main", definition=definition)
    job_id = make_job(pipeline="some")
    claim(machine)
    attempt_start(agent=machine, job_id=job_id, attempt=1)
    lose(machine, job_id)
    assert finish(machine, job_id, exit_code=0, steps=[STEP]) is True
    job = Job.get(job_id)
    assert (job.status, job.error_message, int(job.log_chunks), job.steps) == ("completed", None, 3, [STEP])
    assert event_of(job_id, action) == {
        "actor": machine.id,
        "result": "completed",
        "detail": {"attempt": 1, "exit_code": 0},
    }
    assert Everything.read().inconsistencies() == []
    assert finish(machine, job_id) is False


@pytest.mark.parametrize("is_late", [False, True])
def test_a_run_of_one_job_has_the_commit_that_a_report_brings_late_or_of_a_failure(
    running: Callable[..., str], machine: Actor, is_late: bool
) -> None:
    job_id = running()
    if is_late:
        lose(machine, job_id)
    assert finish(machine, job_id, exit_code=1, commit="c" * 40) is True
    job = Job.get(job_id)
    assert (run_get(str(job.run_id)).commit, job.commit) == ("c" * 40, "c" * 40)


def test_a_late_finish_with_a_message_has_that_one(running: Callable[..., str], machine: Actor) -> None:
    job_id = running()
    lose(machine, job_id)
    finish(machine, job_id, exit_code=1, error_message="no")
    assert stored_job(job_id)["error_message"] == "no"


def test_a_finish_of_a_job_that_changes_each_time_is_stale_after_three_tries(
    running: Callable[..., str], machine: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = running()
    move = Mock(side_effect=TransactionFailed({"job": None}))
    monkeypatch.setattr("apps.jobs.services.attempts.move_commit", move)
    assert code_of(partial(finish, machine, job_id)) == "stale_attempt"
    assert move.call_count == 3


def times(started_at: str | None, completed_at: str | None) -> dict[str, Any]:
    return {"name": "lint", "state": "completed", "started_at": started_at, "completed_at": completed_at}


@pytest.mark.parametrize(
    ("steps", "measured"),
    [
        ([], []),
        ([times(None, None)], []),
        ([times("2026-11-21T09:00:00Z", None)], []),
        ([times(None, "2026-11-21T09:00:00Z")], []),
        ([times("2026-11-21T09:00:00Z", "2026-11-21T09:00:02Z")], [2]),
        # The clock was set back meanwhile.
        ([times("2026-11-21T09:00:05Z", "2026-11-21T09:00:02Z")], [0]),
        (
            [
                times("2026-11-21T09:00:03Z", "2026-11-21T09:00:09Z"),
                times("2026-11-21T09:00:01Z", "2026-11-21T09:00:04Z"),
                times(None, None),
            ],
            [8],
        ),
    ],
)
def test_how_long_the_steps_ran_is_measured(
    running: Callable[..., str], machine: Actor, steps: list[dict[str, Any]], measured: list[float]
) -> None:
    job_id = running()
    work = Work(request_id="test")
    with at_work(work):
        finish(machine, job_id, steps=steps)
    assert [value for name, value in work.measures if name == metric_names.JOB_RUN] == measured
