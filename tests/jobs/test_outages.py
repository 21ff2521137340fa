"""Outages of the control plane, and of the network to it, cost no job."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.audit.selectors import audit_list
from apps.jobs.models import Job, QueueEntry
from apps.jobs.selectors import job_get, job_log_read
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import agents_mark, leases_expire, logs_archive
from apps.jobs.services.leases import leases_look
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.metering import dynamodb_calls
from tests.polling import polled
from tests.properties.consistency import Everything
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]


@pytest.fixture
def once(pipeline: str) -> str:
    """A pipeline whose jobs are not run again after a loss."""
    repository = "https://git.example.com/app.git"
    definition = "retries: 0\nsteps: [{run: make deploy}]"
    pipeline_save(actor=ADMIN, name="once", repository=repository, default_ref="main", definition=definition)
    return "once"


def fleet(server: str, make_job: MakeJob, agents: int) -> list[tuple[AgentClient, dict[str, object]]]:
    """Agents with a running job each."""
    machines = [enrolled(server, name=f"build-{number}") for number in range(agents)]
    for _ in machines:
        make_job()
    return [(machine, machine.take()) for machine in machines]


def statuses() -> set[str]:
    return {str(job.status) for job in Job.scan()}


def later(seconds: float) -> AbstractContextManager[None]:
    return clock.shifted(timedelta(seconds=seconds))


# --- after a gap in which no agent was heard, every lease gets one full period ---------------------------------------


@pytest.mark.parametrize("away", [31, 46, 75, 300, 4000])
def test_the_first_agent_back_after_an_outage_takes_no_lease_of_its_neighbours(
    server: str, make_job: MakeJob, away: int
) -> None:
    running = fleet(server, make_job, 5)
    with later(away):
        for machine, assignment in running:
            machine.heartbeat(running=[assignment], free_slots=0)
            assert leases_expire() == 0
        with later(20):
            for machine, assignment in running:
                machine.heartbeat(running=[assignment], free_slots=0)
            assert leases_expire() == 0
    assert statuses() == {"running"}


def test_an_agent_that_does_not_return_after_an_outage_loses_its_lease_one_full_period_later(
    server: str, make_job: MakeJob
) -> None:
    (back, assignment), (_, lost) = fleet(server, make_job, 2)
    with later(75):
        for seconds in (0, 15, 30, 44):
            with later(seconds):
                back.heartbeat(running=[assignment], free_slots=0)
                assert statuses() == {"running"}, seconds
        with later(58):
            back.heartbeat(running=[assignment], free_slots=0)
    assert job_get(str(lost["job_id"])).status == "queued"
    assert job_get(str(assignment["job_id"])).status == "running"


@pytest.mark.parametrize("interval", [12, 15, 18])
def test_the_job_of_a_killed_agent_is_queued_again_within_90_seconds_while_one_other_agent_polls(
    server: str, make_job: MakeJob, interval: int
) -> None:
    other = enrolled(server, name="build-2")
    other.heartbeat(free_slots=0)
    ((_, lost),) = fleet(server, make_job, 1)
    for seconds in range(interval, 90, interval):
        with later(seconds):
            other.heartbeat(free_slots=0)
            if job_get(str(lost["job_id"])).status == "queued":
                break
    assert 45 <= seconds <= 72


def test_an_unhealthy_agent_polls_for_its_neighbours_too(server: str, make_job: MakeJob) -> None:
    other = enrolled(server, name="build-2")
    other.heartbeat()
    ((_, lost),) = fleet(server, make_job, 1)
    for seconds in (0, 15, 30, 45, 60):
        with later(seconds):
            other.heartbeat(fault="The battery is low.")
    assert job_get(str(lost["job_id"])).status == "queued"


# --- the sweep runs although no agent reaches the control plane ------------------------------------------------------


def test_sweeps_expire_nothing_while_no_agent_is_heard_for_ten_minutes(server: str, make_job: MakeJob) -> None:
    running = fleet(server, make_job, 3)
    for minute in range(1, 10):
        with later(60 * minute):
            assert leases_expire() == 0
    with later(600):
        for machine, assignment in running:
            machine.heartbeat(running=[assignment], free_slots=0)
        assert leases_expire() == 0
    assert statuses() == {"running"}


def test_after_ten_minutes_without_any_agent_the_sweep_expires_their_leases(server: str, make_job: MakeJob) -> None:
    fleet(server, make_job, 3)
    expired = []
    for minute in range(1, 13):
        with later(60 * minute):
            expired.append(leases_expire())
    assert expired == [0] * 9 + [3, 0, 0]
    assert statuses() == {"queued"}


def test_the_first_sweep_after_an_outage_of_hours_expires_nothing(server: str, make_job: MakeJob) -> None:
    fleet(server, make_job, 2)
    with later(3 * 3600):
        assert leases_expire() == 0
        with later(60):
            assert leases_expire() == 0
    assert statuses() == {"running"}


def test_when_most_of_the_fleet_falls_silent_together_its_leases_last_three_minutes(
    server: str, make_job: MakeJob
) -> None:
    enrolled(server, name="heard").heartbeat()
    running = fleet(server, make_job, 4)
    heard = enrolled(server, name="heard-2")
    for seconds in range(0, 180, 15):
        with later(seconds):
            heard.heartbeat(free_slots=0)
    assert statuses() == {"running"}
    with later(180):
        running[0][0].heartbeat(running=[running[0][1]], free_slots=0)
    with later(195):
        heard.heartbeat(free_slots=0)
    assert sorted(str(job.status) for job in Job.scan()) == ["queued", "queued", "queued", "running"]


# --- a finish that comes late ----------------------------------------------------------------------------------------


def audited(job_id: str) -> list[str]:
    """What was done to the job today, the latest first."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [str(record.action) for record in records if record.target == f"job:{job_id}"]


def test_a_finish_that_comes_late_ends_the_job_as_long_as_it_waits(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    started_at = job_get(job_id).started_at
    with polled(50):
        assert leases_expire() == 1
        assert agent.log(assignment, 0, b"done\n").status_code == 200
        assert agent.finish(assignment, log_chunks=1).status_code == 200
    job = job_get(job_id)
    assert (job.status, int(job.attempt), job.agent_id) == ("completed", 1, agent.agent_id)
    assert (job.agent_name, job.started_by, job.started_at) == ("build-1", agent.agent_id, started_at)
    assert int(job.lost_attempts) == 0
    assert QueueEntry.count(next(row.position for row in queue_registry().sets)) == 0
    assert Everything.read().inconsistencies() == []
    assert operator.get(f"/jobs/{job_id}/log").content == b"done\n"
    assert operator.get(f"/agents/{agent.agent_id}").json()["running_jobs"] == []


def test_a_finish_that_comes_late_replaces_the_failure_of_a_lost_job(
    operator: Client, agent: AgentClient, make_job: MakeJob, once: str
) -> None:
    job_id = make_job(pipeline=once)
    assignment = agent.take()
    assert agent.log(assignment, 0, b"deployed\n").status_code == 200
    with polled(50):
        assert leases_expire() == 1
        lost = operator.get(f"/jobs/{job_id}").json()
        assert lost["status"] == "failed"
        assert "was lost" in lost["error_message"]
        with later(10):
            logs_archive()
            cache.clear()
            assert agent.log(assignment, 1, b"well\n").status_code == 200
            assert agent.finish(assignment, log_chunks=2).status_code == 200
            found = operator.get(f"/jobs/{job_id}").json()
            assert (found["status"], found["error_message"]) == ("completed", None)
            logs_archive()
    assert operator.get(f"/jobs/{job_id}/log").content == b"deployed\nwell\n"
    assert audited(job_id)[0] == "job.outcome_replaced"
    assert Everything.read().inconsistencies() == []
    assert operator.get("/jobs?status=completed").json()["total"] == 1
    assert operator.get("/jobs?status=failed").json()["jobs"] == []


def test_a_late_failure_replaces_the_loss_too(agent: AgentClient, make_job: MakeJob, once: str) -> None:
    job_id = make_job(pipeline=once)
    assignment = agent.take()
    with polled(50):
        leases_expire()
        assert agent.finish(assignment, exit_code=2, error_message="Step 1 failed.").status_code == 200
    job = job_get(job_id)
    assert (job.status, int(job.exit_code), job.error_message) == ("failed", 2, "Step 1 failed.")
    assert Everything.read().inconsistencies() == []


def test_a_loss_is_replaced_on_the_next_day_too(agent: AgentClient, make_job: MakeJob, once: str) -> None:
    make_job(pipeline=once)
    assignment = agent.take()
    with polled(50):
        leases_expire()
    with clock.shifted(timedelta(days=1, seconds=60)):
        assert agent.finish(assignment).status_code == 200
        assert Everything.read().inconsistencies() == []


def test_a_late_finish_that_is_repeated_changes_nothing_more(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        leases_expire()
        for exit_code in (0, 1, 0):
            assert agent.finish(assignment, exit_code=exit_code).status_code == 200
    assert job_get(job_id).status == "completed"
    assert audited(job_id).count("job.finished") == 1


def test_a_late_finish_is_refused_once_another_attempt_has_begun(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        leases_expire()
        other = enrolled(server, name="build-2")
        (again,) = other.heartbeat()["jobs"]
        cache.clear()
        problem(agent.finish(assignment), 409, "stale_attempt")
        problem(agent.log(assignment, 0, b"x"), 409, "stale_attempt")
        other.start(again)
        other.finish(again, exit_code=1)
        problem(agent.finish(assignment), 409, "stale_attempt")
    assert (job_get(job_id).status, int(job_get(job_id).attempt)) == ("failed", 2)


def test_only_the_agent_that_lost_the_attempt_may_finish_it_late(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assignment = agent.take()
    other = enrolled(server, name="build-2")
    with polled(50):
        leases_expire()
        problem(other.finish(assignment), 409, "stale_attempt")
        problem(agent.finish({**assignment, "attempt": 2}), 409, "stale_attempt")


def test_a_cancelled_job_stays_cancelled_after_a_late_finish(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        leases_expire()
        assert operator.post(f"/jobs/{job_id}/cancel").status_code == 200
        problem(agent.finish(assignment), 409, "stale_attempt")
    assert job_get(job_id).status == "cancelled"
    assert job_log_read(job=job_get(job_id), offset=0, limit=10).complete


def test_an_agent_that_still_runs_a_lost_attempt_goes_on_with_it_while_the_job_waits(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    started_at = job_get(job_id).started_at
    with polled(50):
        assert leases_expire() == 1
        answer = agent.heartbeat(running=[assignment], free_slots=3)
        assert (answer["wishes"], answer["jobs"]) == ([], [])
        job = job_get(job_id)
        assert (job.status, int(job.attempt), int(job.lost_attempts)) == ("running", 1, 0)
        assert (job.agent_id, job.started_at) == (agent.agent_id, started_at)
        assert Everything.read().inconsistencies() == []
        operator.post(f"/jobs/{job_id}/cancel")
        assert agent.heartbeat(running=[assignment])["wishes"] == [{**assignment, "wish": "cancel"}]
        assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "completed"
    assert Everything.read().inconsistencies() == []


def test_an_agent_that_still_runs_the_last_attempt_of_a_failed_job_goes_on_with_it(
    agent: AgentClient, make_job: MakeJob, once: str
) -> None:
    job_id = make_job(pipeline=once)
    assignment = agent.take()
    with polled(50):
        assert leases_expire() == 1
        assert agent.heartbeat(running=[assignment])["wishes"] == []
        assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "completed"


def test_the_sweep_marks_no_agent_unhealthy_for_a_silence_during_which_the_control_plane_was_away(
    server: str, make_job: MakeJob
) -> None:
    running = fleet(server, make_job, 3)
    with later(600):
        assert agents_mark() == 0
        leases_expire()
        running[0][0].heartbeat(running=[running[0][1]])
        with later(30):
            assert agents_mark() == 0
        for seconds in (15, 30, 45, 50):
            with later(seconds):
                running[0][0].heartbeat(running=[running[0][1]])
        with later(51):
            assert agents_mark() == 2


def test_the_first_poll_after_a_gap_reads_no_heartbeats(server: str, make_job: MakeJob) -> None:
    fleet(server, make_job, 1)
    with later(75):
        row = queue_registry().looks
        with dynamodb_calls() as metering:
            assert leases_look(row=row) == 0
    assert metering.operations == ["UpdateItem"]
