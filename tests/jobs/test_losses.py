"""Attempts that no agent has run to the end: what is kept of them, who gets the job next, and how it ends."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.cache import cache

from apps.agents.models import Heartbeat
from apps.agents.services import lease_restore
from apps.jobs.label_sets import set_id
from apps.jobs.models import OPEN, SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import attempt_start, job_cancel, jobs_claim
from apps.jobs.services.losses import (
    MOST_FAULTS,
    attempt_end,
    attempt_expire,
    attempt_fault,
    attempt_keep,
    attempt_pass_on,
    attempt_release,
)
from apps.jobs.services.queue import entry_of
from apps.jobs.states import Status
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Conflict, NotFound, TooManyRequests, Unprocessable
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed
from tests.conftest import ADMIN
from tests.interleaving import before_call, every_order
from tests.jobs.conftest import MakeAgent, changes, event_of, stored_job, stored_lease
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything

SILENT = "its agent sent no heartbeat"
PENDING = [{"name": "lint", "state": "pending"}, {"name": "test", "state": "pending"}]


@pytest.fixture
def agent(make_agent: MakeAgent) -> Actor:
    return make_agent()


@pytest.fixture
def assigned(make_job: Callable[..., str], agent: Actor) -> Callable[..., str]:
    """Makes a job that the agent has claimed. `retries` are those of its pipeline."""

    def make(retries: int = 2, **members: object) -> str:
        definition = f"retries: {retries}\nsteps: [{{name: lint, run: a}}, {{name: test, run: b}}]"
        repository = "https://git.example.com/app.git"
        pipeline_save(actor=ADMIN, name="self", repository=repository, default_ref="main", definition=definition)
        job_id = make_job(**members)
        claim(agent)
        return job_id

    return make


@pytest.fixture
def running(assigned: Callable[..., str], agent: Actor) -> Callable[..., str]:
    """Makes a job that the agent runs, in attempt 1."""

    def make(retries: int = 2, **members: object) -> str:
        job_id = assigned(retries, **members)
        attempt_start(agent=agent, job_id=job_id, attempt=1)
        return job_id

    return make


def claim(agent: Actor, *labels: str) -> list[tuple[str, int]]:
    sets = queue_registry().sets_for(labels)
    return [(claimed.job_id, claimed.attempt) for claimed in jobs_claim(agent=agent, sets=sets, limit=1)]


def expire(agent: Actor, job_id: str, attempt: int = 1, heartbeat_at: str | None = None) -> bool:
    return attempt_expire(agent_id=agent.id, job_id=job_id, attempt=attempt, heartbeat_at=heartbeat_at, reason=SILENT)


def entries() -> list[dict[str, Any]]:
    """What waits in the queue."""
    names = ("attempt", "since", "avoid", "avoid_until")
    return [
        {name: getattr(entry, name) for name in names if getattr(entry, name) is not None}
        for entry in Everything.read().entries
    ]


def reported(*states: str) -> list[dict[str, str]]:
    return [{"name": name, "state": state} for name, state in zip(("lint", "test"), states, strict=True)]


def later(seconds: float) -> Any:
    return clock.shifted(timedelta(seconds=seconds))


# --- an offer that is not acknowledged ------------------------------------------------------------------------------


def test_a_released_job_waits_as_before_and_goes_to_other_agents_first(
    assigned: Callable[..., str], agent: Actor, now: str
) -> None:
    job_id = assigned()
    found = stored_job(job_id)
    with later(60):
        released_at, until = clock.timestamp(clock.now()), clock.timestamp(clock.now() + timedelta(minutes=2))
        assert attempt_release(agent_id=agent.id, job_id=job_id, attempt=1)
    after = {"status": "queued", "agent_id": None, "assigned_at": None}
    assert changes(found, stored_job(job_id)) == after
    assert entries() == [{"attempt": 2, "since": released_at, "avoid": [agent.id], "avoid_until": until}]
    assert stored_lease(agent.id, job_id) is None
    heartbeat = Heartbeat.get(agent.id)
    assert (heartbeat.ignored, heartbeat.ignored_at) == (1, released_at)
    reason = "the agent did not acknowledge it"
    detail = {"attempt": 1, "reason": reason, "agent_id": agent.id}
    assert event_of(job_id, "job.requeued") == {"actor": SYSTEM.id, "result": "ok", "detail": detail}


def test_a_started_attempt_is_not_released(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    with dynamodb_calls() as metering:
        assert attempt_release(agent_id=agent.id, job_id=job_id, attempt=1) is False
    assert metering.operations == ["GetItem"]
    assert stored_lease(agent.id, job_id) is not None


def test_a_cancel_request_at_an_offered_job_stops_its_release(assigned: Callable[..., str], agent: Actor) -> None:
    job_id = assigned()
    with before_call(lambda: job_cancel(actor=ADMIN, job_id=job_id), call=1):
        assert attempt_release(agent_id=agent.id, job_id=job_id, attempt=1) is False
    assert stored_job(job_id)["status"] == "cancelled"
    assert entries() == []


# --- a lost lease ---------------------------------------------------------------------------------------------------


def test_a_lost_attempt_leaves_its_job_queued_with_the_loss_counted_and_no_trace_of_the_agent_but_the_marks(
    running: Callable[..., str], agent: Actor, now: str
) -> None:
    job_id = running()
    Job(job_id).update(actions=[Job.steps.set(reported("completed", "running"))])
    found = stored_job(job_id)
    assert found["agent_name"] == agent.name
    with later(60):
        lost_at = clock.timestamp(clock.now())
        assert expire(agent, job_id)
    gone = dict.fromkeys(("agent_id", "agent_name", "assigned_at", "started_at", "started_by"))
    job = stored_job(job_id)
    assert changes(found, job) == {
        "status": "queued",
        "lost_attempts": 1,
        "lost_agent_id": agent.id,
        "lost_started_at": now,
        "steps": job["steps"],
        **gone,
    }
    assert Job.get(job_id).steps == PENDING
    assert entries() == [{"attempt": 2, "since": lost_at}]
    assert stored_lease(agent.id, job_id) is None
    detail = {"attempt": 1, "reason": SILENT, "agent_id": agent.id}
    assert event_of(job_id, "job.requeued") == {"actor": SYSTEM.id, "result": "ok", "detail": detail}


def test_the_second_loss_is_counted_after_the_first(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    for attempt in (1, 2):
        assert expire(agent, job_id, attempt)
        assert stored_job(job_id)["lost_attempts"] == attempt
        assert claim(agent) == [(job_id, attempt + 1)]
        attempt_start(agent=agent, job_id=job_id, attempt=attempt + 1)
    assert expire(agent, job_id, 3)
    assert (stored_job(job_id)["status"], stored_job(job_id)["lost_attempts"]) == ("failed", 3)


def test_an_offer_that_is_lost_with_its_agent_counts_and_no_late_report_of_it_does(
    assigned: Callable[..., str], agent: Actor
) -> None:
    job_id = assigned()
    assert expire(agent, job_id)
    job = stored_job(job_id)
    assert (job["status"], job["lost_attempts"], "lost_agent_id" in job) == ("queued", 1, False)
    assert attempt_keep(agent=agent, job_id=job_id, attempt=1) is False


def test_the_loss_of_the_last_attempt_ends_the_job_and_says_why(
    running: Callable[..., str], agent: Actor, now: str
) -> None:
    job_id = running(retries=0)
    found = stored_job(job_id)
    assert expire(agent, job_id)
    changed = changes(found, stored_job(job_id))
    del changed["outcome"]
    assert changed == {
        "status": "failed",
        "lost_attempts": 1,
        "lost_agent_id": agent.id,
        "lost_started_at": now,
        "completed_at": now,
        "error_message": "Attempt 1 was lost: its agent sent no heartbeat.",
    }
    assert (entries(), stored_lease(agent.id, job_id)) == ([], None)
    detail = {"attempt": 1, "reason": SILENT, "agent_id": agent.id}
    assert event_of(job_id, "job.finished") == {"actor": SYSTEM.id, "result": "failed", "detail": detail}


@pytest.mark.parametrize("retries", [0, 2])
def test_a_cancellation_that_arrives_while_a_lease_is_lost_ends_the_job_as_cancelled(
    running: Callable[..., str], agent: Actor, retries: int
) -> None:
    for order in every_order():
        job_id = running(retries)
        cancelled, _ = order.race(partial(job_cancel, actor=ADMIN, job_id=job_id), partial(expire, agent, job_id))
        expire(agent, job_id)
        assert stored_job(job_id)["status"] == ("failed" if cancelled == "job_finished" else "cancelled")
        assert entries() == []


def test_a_job_that_was_to_be_cancelled_is_cancelled_with_its_lease_for_good(
    running: Callable[..., str], agent: Actor
) -> None:
    job_id = running()
    job_cancel(actor=ADMIN, job_id=job_id)
    assert expire(agent, job_id)
    job = stored_job(job_id)
    assert (job["status"], "lost_agent_id" in job, "lost_started_at" in job) == ("cancelled", False, False)
    assert event_of(job_id, "job.finished")["result"] == "cancelled"


def test_a_loss_is_logged_with_its_reason_and_outcome(
    running: Callable[..., str], agent: Actor, caplog: pytest.LogCaptureFixture
) -> None:
    queued, failed = running(), running(retries=0)
    with caplog.at_level(logging.WARNING):
        expire(agent, queued)
        expire(agent, failed)
    expected = ["the job is queued again", "the job has ended as failed"]
    for record, job_id, outcome in zip(caplog.records, (queued, failed), expected, strict=True):
        assert record.getMessage() == f"attempt lost: {SILENT}; {outcome}"
        subject = {name: getattr(record, name) for name in ("job_id", "agent_id", "attempt")}
        assert subject == {"job_id": job_id, "agent_id": agent.id, "attempt": 1}


def test_a_lease_is_not_lost_while_its_agent_sends_heartbeats(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    assert expire(agent, job_id, heartbeat_at="2026-11-21T09:00:00.000000Z") is False
    assert stored_job(job_id)["status"] == "running"
    assert expire(agent, job_id, heartbeat_at=Heartbeat.get(agent.id).at)


# --- a lease that its job contradicts -------------------------------------------------------------------------------


def contradict(agent: Actor, job_id: str, attempt: int = 1) -> None:
    """Give the agent a lease on the attempt, as after a restore."""
    restored = Transaction()
    lease_restore(restored, agent_id=agent.id, job_id=job_id, attempt=attempt, at=clock.timestamp(clock.now()))
    restored.commit()


LOSE: list[Callable[[Actor, str], bool]] = [
    lambda agent, job_id: attempt_release(agent_id=agent.id, job_id=job_id, attempt=1),
    expire,
]


@pytest.mark.parametrize("lose", LOSE, ids=["release", "expire"])
def test_a_lease_on_a_job_that_is_gone_queued_or_another_agents_is_removed_and_said(
    make_job: Callable[..., str],
    make_agent: MakeAgent,
    agent: Actor,
    lose: Callable[[Actor, str], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    queued, taken = make_job(priority=1), make_job(priority=2)
    other = make_agent()
    assert claim(other) == [(taken, 1)]
    for job_id in (queued, taken, new_id()):
        contradict(agent, job_id)
        found = Everything.read().jobs.get(job_id)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert lose(agent, job_id) is False
        (record,) = caplog.records
        assert record.getMessage() == "a lease contradicted its job and was removed"
        assert (record.job_id, record.agent_id, record.attempt) == (job_id, agent.id, 1)  # type: ignore[attr-defined]
        assert stored_lease(agent.id, job_id) is None
        assert (found.status if found else None) == (stored_job(job_id)["status"] if found else None)
    assert stored_lease(other.id, taken) is not None


@pytest.mark.parametrize("lose", LOSE, ids=["release", "expire"])
def test_a_lease_whose_job_changes_while_it_is_compared_stays(
    make_job: Callable[..., str],
    agent: Actor,
    lose: Callable[[Actor, str], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for changed in (Job.attempt.add(1), Job.status.set(Status.WAITING)):
        job_id = make_job()
        contradict(agent, job_id)
        with before_call(partial(Job(job_id).update, actions=[changed]), call=1):
            assert lose(agent, job_id) is False
        assert stored_lease(agent.id, job_id) is not None
    absent = make_job()
    job = Job.get(absent)
    job.delete()
    contradict(agent, absent)
    with before_call(job.save, call=1):
        assert lose(agent, absent) is False
    assert stored_lease(agent.id, absent) is not None
    assert caplog.records == []


def test_a_newer_lease_of_the_agent_on_the_job_stays(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    expire(agent, job_id)
    assert claim(agent) == [(job_id, 2)]
    for lose in LOSE:
        assert lose(agent, job_id) is False
    assert stored_lease(agent.id, job_id) is not None
    assert (stored_job(job_id)["status"], stored_job(job_id)["attempt"]) == ("assigned", 2)


# --- an attempt that goes on ----------------------------------------------------------------------------------------


def test_an_agent_goes_on_with_a_lost_attempt_while_its_job_waits(
    running: Callable[..., str], agent: Actor, now: str
) -> None:
    job_id = running()
    found = stored_job(job_id)
    with later(60):
        expire(agent, job_id)
        assert attempt_keep(agent=agent, job_id=job_id, attempt=1) is True
    assert changes({**found, "lost_attempts": 0}, {**stored_job(job_id), "steps": found["steps"]}) == {
        "assigned_at": None
    }
    assert stored_lease(agent.id, job_id) == {"attempt": 1, "at": now, "started": True, "limit": 3600}
    assert entries() == []
    expected = {"actor": agent.id, "result": "ok", "detail": {"attempt": 1}}
    assert event_of(job_id, "job.resumed") == expected
    assert Everything.read().inconsistencies() == []


def test_an_agent_goes_on_with_the_last_attempt_of_a_failed_job_without_a_lease(
    running: Callable[..., str], agent: Actor
) -> None:
    job_id = running(retries=0)
    expire(agent, job_id)
    assert attempt_keep(agent=agent, job_id=job_id, attempt=1) is True
    assert (stored_job(job_id)["status"], stored_lease(agent.id, job_id)) == ("failed", None)


def test_an_agent_does_not_go_on_with_what_it_has_not_lost(
    running: Callable[..., str], make_agent: MakeAgent, agent: Actor
) -> None:
    job_id = running()
    assert attempt_keep(agent=agent, job_id=job_id, attempt=1) is False
    assert attempt_keep(agent=agent, job_id=new_id(), attempt=1) is False
    expire(agent, job_id)
    assert attempt_keep(agent=make_agent(), job_id=job_id, attempt=1) is False
    assert attempt_keep(agent=agent, job_id=job_id, attempt=2) is False
    other = make_agent()
    with before_call(lambda: claim(other), call=1):
        assert attempt_keep(agent=agent, job_id=job_id, attempt=1) is False
    assert (stored_job(job_id)["agent_id"], stored_job(job_id)["attempt"]) == (other.id, 2)


# --- an attempt that failed with its machine ------------------------------------------------------------------------


def fail(agent: Actor, job_id: str, attempt: int = 1, *states: str, reason: str = "the disk is full") -> bool:
    steps = reported(*states) if states else []
    return attempt_fault(agent=agent, job_id=job_id, attempt=attempt, reason=reason, steps=steps)


def test_a_job_whose_machine_failed_keeps_the_reason_and_goes_to_other_agents_first(
    running: Callable[..., str], agent: Actor, now: str
) -> None:
    job_id = running()
    assert fail(agent, job_id, reason="x" * 300) is True
    fault = {"agent_id": agent.id, "agent": agent.name, "attempt": 1, "reason": "x" * 200, "at": now}
    job = Job.get(job_id)
    assert (job.status, job.faults, int(job.lost_attempts), job.steps) == ("queued", [fault], 0, PENDING)
    until = clock.timestamp(clock.now() + timedelta(minutes=2))
    assert entries() == [{"attempt": 2, "since": now, "avoid": [agent.id], "avoid_until": until}]
    heartbeat = Heartbeat.get(agent.id)
    assert (heartbeat.faults, heartbeat.fault_at, heartbeat.fault_reason) == (1, now, "x" * 300)
    detail = {"attempt": 1, "reason": f"the machine of {agent.name} failed: {'x' * 300}"[:199] + "…"}
    found = event_of(job_id, "job.requeued")
    assert found == {"actor": agent.id, "result": "ok", "detail": {**detail, "agent_id": agent.id}}


@pytest.mark.parametrize(
    ("states", "lost"),
    [
        (("pending", "pending"), 0),
        (("skipped", "skipped"), 0),
        (("running", "pending"), 1),
        (("completed", "skipped"), 1),
        (("skipped", "failed"), 1),
    ],
)
def test_a_fault_counts_as_a_loss_only_if_a_step_has_started(
    running: Callable[..., str], agent: Actor, states: tuple[str, str], lost: int
) -> None:
    job_id = running()
    fail(agent, job_id, 1, *states)
    assert stored_job(job_id)["lost_attempts"] == lost


def test_faults_after_a_step_has_started_use_the_retries_up(running: Callable[..., str], agent: Actor) -> None:
    job_id = running(retries=1)
    fail(agent, job_id, 1, "running", "pending")
    with later(121):
        assert claim(agent) == [(job_id, 2)]
        attempt_start(agent=agent, job_id=job_id, attempt=2)
        fail(agent, job_id, 2, "running", "pending")
    job = Job.get(job_id)
    assert (job.status, int(job.lost_attempts), len(job.faults)) == ("failed", 2, 2)
    assert job.error_message == "Attempt 2 was lost: the machine of build failed: the disk is full."
    assert Heartbeat.get(agent.id).faults == 2
    assert event_of(job_id, "job.finished")["actor"] == SYSTEM.id


def test_a_job_to_be_cancelled_whose_machine_fails_is_cancelled(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    job_cancel(actor=ADMIN, job_id=job_id)
    assert fail(agent, job_id) is True
    job = Job.get(job_id)
    assert (job.status, len(job.faults)) == ("cancelled", 1)
    assert job.error_message == "Attempt 1 was lost: the machine of build failed: the disk is full."
    assert Heartbeat.get(agent.id).faults == 1


def test_after_five_faults_the_job_fails_and_names_the_machines_and_avoids_only_the_recent_ones(
    running: Callable[..., str], make_agent: MakeAgent, agent: Actor
) -> None:
    job_id, machines = running(), [agent]
    for number in range(MOST_FAULTS - 1):
        with later(50 * number):
            assert fail(machines[-1], job_id, number + 1, reason=f"reason {number}")
            (entry,) = entries()
            assert entry["avoid"] == sorted(machine.id for machine in machines[-3:])
            machines.append(make_agent())
            assert claim(machines[-1]) == [(job_id, number + 2)]
            attempt_start(agent=machines[-1], job_id=job_id, attempt=number + 2)
    assert fail(machines[-1], job_id, MOST_FAULTS, reason="reason 4")
    job = Job.get(job_id)
    reasons = "; ".join(f"build: reason {number}" for number in range(MOST_FAULTS))
    assert (job.status, job.error_message) == (
        "failed",
        f"{MOST_FAULTS} attempts failed because of their machines. {reasons}",
    )
    assert Heartbeat.get(machines[-1].id).faults == 1


def test_a_fault_that_is_reported_again_or_too_late_changes_nothing(
    running: Callable[..., str], make_agent: MakeAgent, agent: Actor
) -> None:
    repeated, expired, failed, ended = running(), running(), running(retries=0), running(retries=0)
    assert fail(agent, repeated)
    expire(agent, expired)
    expire(agent, failed)
    assert fail(agent, ended, 1, "running", "pending")
    for job_id in (repeated, expired, failed, ended):
        found = stored_job(job_id)
        assert fail(agent, job_id) is False
        assert stored_job(job_id) == found
    with pytest.raises(NotFound):
        fail(agent, new_id())
    for machine, attempt in ((make_agent(), 1), (agent, 2)):
        with pytest.raises(Conflict) as refusal:
            fail(machine, repeated, attempt)
        assert refusal.value.code == "stale_attempt"


def test_a_fault_of_an_attempt_before_the_last_one_is_stale(
    running: Callable[..., str], make_agent: MakeAgent, agent: Actor
) -> None:
    job_id = running()
    fail(agent, job_id)
    claim(make_agent())
    with pytest.raises(Conflict) as refusal:
        fail(agent, job_id)
    assert refusal.value.code == "stale_attempt"


def test_a_cancel_request_that_arrives_with_a_fault_ends_the_job_as_cancelled(
    running: Callable[..., str], agent: Actor
) -> None:
    statuses = set()
    for order in every_order():
        job_id = running()
        cancelled, faulted = order.race(partial(job_cancel, actor=ADMIN, job_id=job_id), partial(fail, agent, job_id))
        assert isinstance(cancelled, Job)
        assert faulted is True
        statuses.add(stored_job(job_id)["status"])
    assert statuses == {"cancelled"}


def test_a_fault_of_a_job_that_changes_each_time_is_refused_after_three_tries(
    running: Callable[..., str], agent: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = running()
    move = Mock(side_effect=TransactionFailed({"job": None}))
    monkeypatch.setattr("apps.jobs.services.losses.move_commit", move)
    with pytest.raises(Conflict) as refusal:
        fail(agent, job_id)
    assert (refusal.value.code, move.call_count) == ("job_state", 3)


# --- an attempt that is passed on -----------------------------------------------------------------------------------


def test_a_job_that_is_passed_on_waits_with_its_new_labels_and_counts_no_loss(
    running: Callable[..., str], agent: Actor, now: str
) -> None:
    job_id = running()
    assert attempt_pass_on(job=Job.get(job_id), actor=agent, labels=["gpu"], lacking=["gpu"]) is True
    job = Job.get(job_id)
    assert (job.status, list(job.labels), int(job.lost_attempts)) == ("queued", ["gpu"], 0)
    assert "lost_agent_id" not in stored_job(job_id)
    assert [entry.set_id for entry in Everything.read().entries] == [set_id(["gpu"])]
    assert entries() == [{"attempt": 2, "since": now}]
    detail = {"attempt": 1, "reason": "its pipeline file requires other labels: gpu", "agent_id": agent.id}
    assert event_of(job_id, "job.requeued") == {"actor": agent.id, "result": "ok", "detail": detail}
    assert Everything.read().inconsistencies() == []


def test_a_job_that_is_to_be_cancelled_is_not_passed_on(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    job_cancel(actor=ADMIN, job_id=job_id)
    assert attempt_pass_on(job=Job.get(job_id), actor=agent, labels=["gpu"], lacking=["gpu"]) is True
    job = Job.get(job_id)
    assert (job.status, list(job.labels)) == ("cancelled", [])
    assert job.error_message == "Attempt 1 was lost: its pipeline file requires other labels: gpu."
    assert event_of(job_id, "job.finished")["detail"]["reason"] == "its pipeline file requires other labels: gpu"


def test_a_job_whose_labels_would_be_one_set_too_many_is_refused_in_a_way_that_is_not_tried_again(
    running: Callable[..., str], agent: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job.get(running())
    monkeypatch.setattr("apps.jobs.services.queue.MAX_SETS_OF_PIPELINE", 1)
    with pytest.raises(Unprocessable) as refusal:
        attempt_pass_on(job=job, actor=agent, labels=["gpu"], lacking=["gpu"])
    assert refusal.value.code == "too_many_label_sets"
    assert isinstance(refusal.value.__cause__, TooManyRequests)
    assert refusal.value.message == refusal.value.__cause__.message


# --- an attempt that the control plane ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "states"), [(Status.TIMED_OUT, ["timed_out", "skipped"]), (Status.CANCELLED, ["cancelled", "skipped"])]
)
def test_an_attempt_that_the_control_plane_ends_has_its_last_reported_steps_and_the_message(
    running: Callable[..., str], agent: Actor, after: Status, states: list[str]
) -> None:
    job_id = running()
    if after == Status.CANCELLED:
        job_cancel(actor=ADMIN, job_id=job_id)
    steps = reported("running", "pending")
    end = partial(attempt_end, agent_id=agent.id, job_id=job_id, attempt=1, after=after, message="Too slow.")
    assert end(steps=steps) is True
    job = Job.get(job_id)
    assert (job.status, job.error_message) == (after, "Too slow.")
    assert [step["state"] for step in job.steps] == states
    assert stored_lease(agent.id, job_id) is None
    detail = {"attempt": 1, "reason": "Too slow.", "agent_id": agent.id}
    assert event_of(job_id, "job.finished") == {"actor": SYSTEM.id, "result": after, "detail": detail}
    assert end(steps=steps) is False


def test_an_attempt_without_reported_steps_keeps_those_of_its_job(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    assert attempt_end(
        agent_id=agent.id, job_id=job_id, attempt=1, after=Status.TIMED_OUT, message="Too slow.", steps=None
    )
    assert Job.get(job_id).steps == PENDING


def test_only_the_running_attempt_of_the_agent_is_ended(
    running: Callable[..., str], assigned: Callable[..., str], make_agent: MakeAgent, agent: Actor
) -> None:
    job_id, offered = running(), assigned()
    other = make_agent()
    for agent_id, which, attempt in (
        (other.id, job_id, 1),
        (agent.id, job_id, 2),
        (agent.id, new_id(), 1),
        (agent.id, offered, 1),
    ):
        end = partial(attempt_end, agent_id=agent_id, job_id=which, attempt=attempt)
        assert end(after=Status.TIMED_OUT, message="Too slow.", steps=None) is False
    assert {stored_job(which)["status"] for which in (job_id, offered)} == {"running", "assigned"}


def test_a_cancel_request_that_arrives_while_the_control_plane_ends_an_attempt_stops_the_end(
    running: Callable[..., str], agent: Actor
) -> None:
    job_id = running()
    end = partial(attempt_end, agent_id=agent.id, job_id=job_id, attempt=1)
    with before_call(lambda: job_cancel(actor=ADMIN, job_id=job_id), call=1):
        assert end(after=Status.TIMED_OUT, message="Too slow.", steps=None) is False
    assert stored_job(job_id)["status"] == "running"


# --- the queue ------------------------------------------------------------------------------------------------------


def test_a_lost_job_is_found_although_its_label_set_was_pruned(
    running: Callable[..., str], agent: Actor, make_agent: MakeAgent
) -> None:
    job_id = running()
    QueueSet(SETS, set_id([])).delete()
    cache.clear()
    assert expire(agent, job_id)
    assert claim(make_agent()) == [(job_id, 2)]
    assert Job.get(job_id).open == OPEN


def test_an_entry_that_was_left_over_is_replaced(running: Callable[..., str], agent: Actor) -> None:
    job_id = running()
    left = entry_of(Job.get(job_id), attempt=1)
    QueueEntry(left.set_id, left.position, attempt=1).save()
    assert expire(agent, job_id)
    assert [entry["attempt"] for entry in entries()] == [2]
