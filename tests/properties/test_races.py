"""Two who want opposite things of one job at the same moment: one of them gets it, and everything fits together after.

Each race runs in every order of the two (`tests.interleaving`), so each test also says which outcomes there are.
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
from tests.interleaving import every_order
from tests.polling import polled
from tests.properties.consistency import Everything

SUCCESS = AttemptResult(exit_code=0, error_message=None, steps=[], log_chunks=0, commit=None)
FAILURE = AttemptResult(exit_code=1, error_message=None, steps=[], log_chunks=0, commit=None)


@pytest.fixture
def agent(tables: None) -> Actor:
    """An enrolled agent; the pipelines ``self``, with two retries, and ``once``, with none, are there too."""
    for name, retries in (("self", 2), ("once", 0)):
        pipeline_save(
            actor=ADMIN,
            name=name,
            repository="https://git.example.com/app.git",
            default_ref="main",
            definition=f"retries: {retries}\nsteps: [{{run: make}}]",
        )
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)
    enrolled = agent_enrol(token=token, name="build", region="eu", labels=[], slots=64)
    return Actor("agent", enrolled.agent_id, "build")


def queued(pipeline: str = "self") -> str:
    return str(job_create(actor=ADMIN, pipeline=pipeline).job_id)


def claim(agent: Actor) -> list[tuple[str, int]]:
    sets = queue_registry().sets_for(())
    return [(claimed.job_id, claimed.attempt) for claimed in jobs_claim(agent=agent, sets=sets, limit=1, slots=64)]


def assigned(agent: Actor, pipeline: str = "self") -> str:
    job_id = queued(pipeline)
    assert claim(agent) == [(job_id, 1)]
    return job_id


def running(agent: Actor, pipeline: str = "self") -> str:
    job_id = assigned(agent, pipeline)
    attempt_start(agent=agent, job_id=job_id, attempt=1)
    return job_id


def expire(agent: Actor, job_id: str, heartbeat_at: str | None = None) -> bool:
    return attempt_expire(
        agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=heartbeat_at, reason="its agent is silent"
    )


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Do all at once, in threads; gives what each returned, or the code of the error that it raised."""
    line = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> object:
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


def kind_of(outcome: object) -> object:
    """The outcome without what differs between jobs."""
    return "job" if isinstance(outcome, Job) else outcome


@pytest.fixture(autouse=True)
def _all_fits_together(agent: Actor) -> Iterator[None]:
    yield
    assert Everything.read().inconsistencies() == []


def test_a_job_that_is_cancelled_while_it_is_claimed_is_cancelled(agent: Actor) -> None:
    claims = set()
    for order in every_order():
        job_id = queued()
        cancelled, claimed = order.race(partial(job_cancel, actor=ADMIN, job_id=job_id), partial(claim, agent))
        assert isinstance(cancelled, Job)
        claims.add(claimed == [(job_id, 1)])
        # Before the claim or right after it: an assignment is not yet an agent's to be asked for.
        assert status_of(job_id)[0] == "cancelled"
        assert claim(agent) == []
    assert claims == {True, False}


def test_a_job_that_is_cancelled_while_it_starts_is_cancelled_or_asked_to_be(agent: Actor) -> None:
    outcomes = set()
    for order in every_order():
        job_id = assigned(agent)
        cancelled, started = order.race(
            partial(job_cancel, actor=ADMIN, job_id=job_id),
            partial(attempt_start, agent=agent, job_id=job_id, attempt=1),
        )
        assert isinstance(cancelled, Job)
        outcomes.add((kind_of(started), status_of(job_id)[0]))
        if status_of(job_id)[0] == "running":
            assert heartbeats_get([agent.id])[agent.id].leases[job_id].command == "cancel"
            attempt_finish(agent=agent, job_id=job_id, attempt=1, result=FAILURE)
        assert status_of(job_id)[0] == "cancelled"
    assert outcomes == {("stale_attempt", "cancelled"), ("job", "running")}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (SUCCESS, {("job", "completed"), ("job_finished", "completed")}),
        # A user who got the answer that the job is being cancelled finds it cancelled.
        (FAILURE, {("job", "cancelled"), ("job_finished", "failed")}),
    ],
    ids=["success", "failure"],
)
def test_a_job_that_is_cancelled_while_it_finishes_ends_once(
    agent: Actor, result: AttemptResult, expected: set[tuple[str, str]]
) -> None:
    outcomes = set()
    for order in every_order():
        job_id = running(agent)
        cancelled, first = order.race(
            partial(job_cancel, actor=ADMIN, job_id=job_id),
            partial(attempt_finish, agent=agent, job_id=job_id, attempt=1, result=result),
        )
        assert first is True
        outcomes.add((kind_of(cancelled), status_of(job_id)[0]))
    assert outcomes == expected


@pytest.mark.parametrize("pipeline", ["self", "once"])
def test_an_attempt_that_finishes_while_it_expires_is_finished(agent: Actor, pipeline: str) -> None:
    outcomes = set()
    for order in every_order():
        job_id = running(agent, pipeline)
        finished, expired = order.race(
            partial(attempt_finish, agent=agent, job_id=job_id, attempt=1, result=SUCCESS),
            partial(expire, agent, job_id),
        )
        outcomes.add((finished, expired))
        assert status_of(job_id) == ("completed", 1)
        assert claim(agent) == []
    # The report of an attempt that has just expired still counts.
    assert outcomes == {(True, False), (True, True)}


def test_a_heartbeat_in_the_moment_of_expiry_keeps_the_lease_or_comes_too_late(agent: Actor) -> None:
    expiries = set()
    for number, order in enumerate(every_order(), 1):
        job_id = running(agent)
        seen = heartbeats_get([agent.id])[agent.id].at
        heartbeat = partial(
            heartbeat_record, agent_id=agent.id, report=_report(), created=number, nonce=f"nonce-number-{number:05d}"
        )
        _, expired = order.race(heartbeat, partial(expire, agent, job_id, seen))
        expiries.add(expired)
        leased = job_id in heartbeats_get([agent.id])[agent.id].leases
        assert leased is not expired
        assert status_of(job_id) == ("running" if leased else "queued", 1)
        job_cancel(actor=ADMIN, job_id=job_id)
        if leased:
            attempt_finish(agent=agent, job_id=job_id, attempt=1, result=FAILURE)
    assert expiries == {True, False}


def test_an_assignment_that_is_acknowledged_while_it_is_released_does_one_of_the_two(agent: Actor) -> None:
    outcomes = set()
    for order in every_order():
        job_id = assigned(agent)
        started, released = order.race(
            partial(attempt_start, agent=agent, job_id=job_id, attempt=1),
            partial(attempt_release, agent_id=agent.id, job_id=job_id, attempt=1),
        )
        outcomes.add((kind_of(started), released))
        assert status_of(job_id)[0] == ("queued" if released else "running")
        job_cancel(actor=ADMIN, job_id=job_id)
        if not released:
            attempt_finish(agent=agent, job_id=job_id, attempt=1, result=FAILURE)
    assert outcomes == {("stale_attempt", True), ("job", False)}


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("self", {("job", False), ("job", True)}),
        # The job may have failed before the user came.
        ("once", {("job", False), ("job", True), ("job_finished", True)}),
    ],
)
def test_a_cancellation_that_arrives_while_a_lease_is_lost_is_not_forgotten(
    agent: Actor, pipeline: str, expected: set[tuple[str, bool]]
) -> None:
    outcomes = set()
    for order in every_order():
        job_id = running(agent, pipeline)
        cancelled, expired = order.race(partial(job_cancel, actor=ADMIN, job_id=job_id), partial(expire, agent, job_id))
        outcomes.add((kind_of(cancelled), expired))
        # Between the two calls of an expiry the request may have come: then the next sweep ends the job.
        expire(agent, job_id)
        assert status_of(job_id)[0] == ("failed" if cancelled == "job_finished" else "cancelled")
        assert claim(agent) == []
    assert outcomes == expected


def test_two_sweeps_at_once_take_each_job_back_once(agent: Actor) -> None:
    jobs = [running(agent), running(agent)]
    counts = set()
    for order in every_order():
        with polled(50):
            first, second = order.race(leases_expire, leases_expire)
            assert int(str(first)) + int(str(second)) == len(jobs)
            counts.add((first, second))
            assert {status_of(job_id)[0] for job_id in jobs} == {"queued"}
            for job_id in jobs:
                job_cancel(actor=ADMIN, job_id=job_id)
        jobs = [running(agent), running(agent)]
    # Also one after the other: then the second finds nothing.
    assert {(0, 2), (2, 0)} < counts


def test_two_sweeps_at_once_archive_each_log_once(agent: Actor) -> None:
    counts = set()
    for order in every_order():
        job_id = running(agent)
        attempt_finish(agent=agent, job_id=job_id, attempt=1, result=SUCCESS)
        counts.add(order.race(logs_archive, logs_archive))
        job = Job.get(job_id)
        assert (job.open, str(job.log_stored).startswith(job_id)) == (None, True)
    # Both may write the file: it is the same.
    assert counts == {(0, 1), (1, 0), (1, 1)}


def test_a_set_that_is_pruned_while_work_comes_is_still_looked_into(agent: Actor) -> None:
    """Each time the request comes from another process than the sweep, so it does not know the set yet."""
    outcomes = set()
    for order in every_order():
        sets_prune()
        with clock.shifted(timedelta(seconds=65)):
            cache.clear()
            pruned, job_id = order.race(sets_prune, queued)
        cache.clear()
        outcomes.add(pruned)
        assert claim(agent) == [(job_id, 1)]
        job_cancel(actor=ADMIN, job_id=str(job_id))
    assert outcomes == {0, 1}


def test_requests_with_one_idempotency_key_make_one_job(agent: Actor) -> None:
    for number, order in enumerate(every_order(), 1):
        create = partial(job_create, actor=ADMIN, idempotency_key=f"key-{number}")
        made = order.race(create, create)
        assert len({answer.job_id for answer in made if isinstance(answer, Job)}) == 1
        assert len(Everything.read().jobs) == number


def test_eight_requests_at_once_with_one_idempotency_key_make_one_job(agent: Actor) -> None:
    for number in range(3):
        answers = at_once(*[partial(job_create, actor=ADMIN, idempotency_key=f"key-{number}")] * 8)
        assert len({answer.job_id for answer in answers if isinstance(answer, Job)}) == 1
        assert {answer for answer in answers if not isinstance(answer, Job)} <= {"idempotency_key_in_use"}
    assert len(Everything.read().jobs) == 3


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
