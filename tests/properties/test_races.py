"""Two who want opposite things of one job at the same moment: one of them gets it, and everything fits together after.

Each race is run many times by real threads. Which side wins is up to chance; what may not happen is neither or both.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from django.core.cache import cache

from apps.agents.selectors import heartbeats_get
from apps.agents.services import agent_enrol, enrolment_token_create, heartbeat_record
from apps.jobs.models import Job
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    AttemptResult,
    attempt_expire,
    attempt_finish,
    attempt_release,
    attempt_start,
    job_cancel,
    job_create,
    jobs_claim,
    leases_expire,
    logs_archive,
    sets_prune,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError
from tests.conftest import ADMIN
from tests.polling import polled
from tests.properties.consistency import Everything

TIMES = 25
SUCCESS = AttemptResult(exit_code=0, error_message=None, steps=[], log_chunks=0, commit=None)
FAILURE = AttemptResult(exit_code=1, error_message=None, steps=[], log_chunks=0, commit=None)

Outcome = object


@pytest.fixture
def agent(tables: None) -> Actor:
    """An enrolled agent; the pipeline ``self`` is there too."""
    pipeline_save(
        actor=ADMIN,
        name="self",
        repository="https://git.example.com/app.git",
        default_ref="main",
        definition="retries: 2\nsteps: [{run: make}]",
    )
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)
    enrolled = agent_enrol(token=token, name="build", region="eu", labels=[], slots=2)
    return Actor("agent", enrolled.agent_id, "build")


def queued() -> str:
    return str(job_create(actor=ADMIN).job_id)


def claim(agent: Actor) -> list[tuple[str, int]]:
    sets = queue_registry().sets_for(())
    return [(claimed.job_id, claimed.attempt) for claimed in jobs_claim(agent=agent, sets=sets, limit=1)]


def assigned(agent: Actor) -> str:
    job_id = queued()
    assert claim(agent) == [(job_id, 1)]
    return job_id


def running(agent: Actor) -> str:
    job_id = assigned(agent)
    attempt_start(agent=agent, job_id=job_id, attempt=1)
    return job_id


def race(*acts: Callable[[], object]) -> list[Outcome]:
    """Do all at once; gives what each returned, or the code of the error that it raised."""
    line = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> Outcome:
        line.wait()
        try:
            return act()
        except ApplicationError as error:
            return error.code

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def status_of(job_id: str) -> tuple[str, int]:
    job = Job.find(job_id)
    assert job is not None
    return job.status, int(job.attempt)


@pytest.fixture(autouse=True)
def _all_fits_together(agent: Actor) -> Iterator[None]:
    yield
    assert Everything.read().inconsistencies() == []


def test_a_job_that_is_cancelled_while_it_is_claimed_is_cancelled(agent: Actor) -> None:
    for _ in range(TIMES):
        job_id = queued()
        cancelled, _ = race(partial(job_cancel, actor=ADMIN, job_id=job_id), partial(claim, agent))
        assert isinstance(cancelled, Job)
        # Before the claim or right after it: an assignment is not yet an agent's to be asked for.
        assert status_of(job_id)[0] == "cancelled"
        assert claim(agent) == []


def test_a_job_that_is_cancelled_while_it_starts_is_cancelled_or_asked_to_be(agent: Actor) -> None:
    for _ in range(TIMES):
        job_id = assigned(agent)
        cancelled, started = race(
            partial(job_cancel, actor=ADMIN, job_id=job_id),
            partial(attempt_start, agent=agent, job_id=job_id, attempt=1),
        )
        assert isinstance(cancelled, Job)
        if started == "stale_attempt":
            assert status_of(job_id)[0] == "cancelled"
        else:
            assert heartbeats_get([agent.id])[agent.id].leases[job_id].command == "cancel" or (
                status_of(job_id)[0] == "cancelled"
            )
            if status_of(job_id)[0] == "running":
                attempt_finish(agent=agent, job_id=job_id, attempt=1, result=FAILURE)
            assert status_of(job_id)[0] == "cancelled"


@pytest.mark.parametrize("result", [SUCCESS, FAILURE], ids=["success", "failure"])
def test_a_job_that_is_cancelled_while_it_finishes_ends_once(agent: Actor, result: AttemptResult) -> None:
    for _ in range(TIMES):
        job_id = running(agent)
        cancelled, first = race(
            partial(job_cancel, actor=ADMIN, job_id=job_id),
            partial(attempt_finish, agent=agent, job_id=job_id, attempt=1, result=result),
        )
        assert first is True
        ended_as = status_of(job_id)[0]
        if result is SUCCESS:
            assert ended_as == "completed"
        else:
            # A user who got the answer that the job is being cancelled finds it cancelled.
            assert ended_as == ("failed" if cancelled == "job_finished" else "cancelled")


def test_an_attempt_that_finishes_while_it_expires_is_finished(agent: Actor) -> None:
    for _ in range(TIMES):
        job_id = running(agent)
        first, expired = race(
            partial(attempt_finish, agent=agent, job_id=job_id, attempt=1, result=SUCCESS),
            partial(attempt_expire, agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="a test"),
        )
        # In either order: the report of an attempt that has just expired still counts.
        assert (first, expired) in {(True, False), (True, True)}
        assert status_of(job_id) == ("completed", 1)
        assert claim(agent) == []


def test_a_heartbeat_in_the_moment_of_expiry_keeps_the_lease_or_comes_too_late(agent: Actor) -> None:
    for number in range(1, TIMES + 1):
        job_id = running(agent)
        seen = heartbeats_get([agent.id])[agent.id].at
        _, expired = race(
            partial(
                heartbeat_record,
                agent_id=agent.id,
                report=_report(),
                created=number,
                nonce=f"nonce-number-{number:05d}",
            ),
            partial(attempt_expire, agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=seen, reason="a test"),
        )
        leased = job_id in heartbeats_get([agent.id])[agent.id].leases
        assert leased is not expired
        job_cancel(actor=ADMIN, job_id=job_id)
        if leased:
            attempt_finish(agent=agent, job_id=job_id, attempt=1, result=FAILURE)


def test_a_heartbeat_just_before_expiry_keeps_the_lease(agent: Actor) -> None:
    job_id = running(agent)
    seen = heartbeats_get([agent.id])[agent.id].at
    heartbeat_record(agent_id=agent.id, report=_report(), created=1, nonce="nonce-of-this-heartbeat")
    assert not attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=seen, reason="a test")
    assert status_of(job_id) == ("running", 1)


def test_an_assignment_that_is_acknowledged_while_it_is_released_does_one_of_the_two(agent: Actor) -> None:
    for _ in range(TIMES):
        job_id = assigned(agent)
        started, released = race(
            partial(attempt_start, agent=agent, job_id=job_id, attempt=1),
            partial(attempt_release, agent_id=agent.id, job_id=job_id, attempt=1),
        )
        assert (started == "stale_attempt") is released
        assert status_of(job_id)[0] == ("queued" if released else "running")
        job_cancel(actor=ADMIN, job_id=job_id)
        if not released:
            attempt_finish(agent=agent, job_id=job_id, attempt=1, result=FAILURE)


def test_a_cancellation_while_a_lease_expires_is_not_forgotten(agent: Actor) -> None:
    for _ in range(TIMES):
        job_id = running(agent)
        cancelled, _ = race(
            partial(job_cancel, actor=ADMIN, job_id=job_id),
            partial(attempt_expire, agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="a test"),
        )
        assert isinstance(cancelled, Job)
        # Between the two readings of an expiry the command may have come: then the next sweep ends it.
        attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="a test")
        assert status_of(job_id)[0] == "cancelled"
        assert claim(agent) == []


def test_two_sweeps_at_once_take_each_job_back_once(agent: Actor) -> None:
    jobs = [running(agent) for _ in range(TIMES)]
    with polled(50):
        counts = race(leases_expire, leases_expire)
        assert sum(int(str(count)) for count in counts) == len(jobs)
    assert {status_of(job_id) for job_id in jobs} == {("queued", 1)}


def test_two_sweeps_at_once_store_logs_and_prune_sets_without_harm(agent: Actor) -> None:
    jobs = [running(agent) for _ in range(5)]
    for job_id in jobs:
        attempt_finish(agent=agent, job_id=job_id, attempt=1, result=SUCCESS)
    race(logs_archive, logs_archive, sets_prune, sets_prune)
    with clock.shifted(timedelta(seconds=65)):
        cache.clear()
        race(sets_prune, sets_prune, queued)
    statuses = [job.status for job in Everything.read().jobs.values()]
    assert sorted(statuses) == ["completed"] * 5 + ["queued"]


def test_a_set_that_is_pruned_while_work_comes_is_still_looked_into(agent: Actor) -> None:
    for _ in range(TIMES):
        sets_prune()
        with clock.shifted(timedelta(seconds=65)):
            cache.clear()
            race(sets_prune, queued)
        cache.clear()
        ((job_id, attempt),) = claim(agent)
        job_cancel(actor=ADMIN, job_id=job_id)
        assert attempt == 1


def test_eight_requests_with_one_idempotency_key_make_one_job(agent: Actor) -> None:
    for number in range(TIMES):
        answers = race(*[partial(job_create, actor=ADMIN, idempotency_key=f"key-{number}")] * 8)
        made = {answer.job_id for answer in answers if isinstance(answer, Job)}
        assert len(made) == 1
        assert {answer for answer in answers if not isinstance(answer, Job)} <= {"idempotency_key_in_use"}
    assert len(Everything.read().jobs) == TIMES


def _report() -> dict[str, object]:
    return {
        "cpu_percent": 1,
        "memory_percent": 1,
        "disk_percent": 1,
        "jobs_queued": 0,
        "jobs_completed": 0,
        "uptime_seconds": 1,
        "free_slots": 0,
        "running": [],
    }
