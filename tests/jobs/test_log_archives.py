"""Logs that cannot be archived: the others are, and the failure is noted, shown and tried again."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import storages

from apps.jobs.models import Job, LogChunk
from apps.jobs.selectors import job_get
from apps.jobs.services import log_archive, log_archives, logs_archive
from controlplane.lib import clock, metric_names
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import Work, at_work
from tests.clients import Client
from tests.jobs.test_job_log import whole
from tests.signing import AgentClient


@pytest.fixture
def ended(make_job: Callable[..., str], agent: AgentClient) -> Callable[[], str]:
    """Makes jobs that have ended and whose log waits to be archived."""

    def end() -> str:
        job_id = make_job()
        assignment = agent.take()
        agent.log(assignment, 0, b"what the job printed\n" * 100, packed=True)
        agent.finish(assignment, log_chunks=1)
        return job_id

    return end


def damage(job_id: str) -> LogChunk:
    """Damage the chunk of the job's log. Returns the chunk as it was."""
    (chunk,) = LogChunk.query(f"{job_id}#1")
    chunk.update(actions=[LogChunk.packed.set(b"damaged")])
    (before,) = LogChunk.query(f"{job_id}#1")
    return before


def is_archived(job_id: str) -> bool:
    return bool(job_get(job_id).log_stored)


def test_one_log_that_cannot_be_archived_does_not_hold_up_the_others(
    ended: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    first, damaged, last = (ended() for _ in range(3))
    damage(damaged)
    work = Work(request_id="test")
    with caplog.at_level(logging.WARNING), at_work(work):
        assert logs_archive() == 2
    assert [is_archived(job_id) for job_id in (first, damaged, last)] == [True, False, True]
    assert f"the log of job {damaged} was not archived (failure 1)" in caplog.text
    assert (metric_names.LOG_ARCHIVE_FAILURES, 1) in work.measures


def test_a_damaged_log_alone_does_not_fail_the_sweep(ended: Callable[[], str]) -> None:
    damage(ended())
    assert logs_archive() == 0


def test_a_log_that_failed_is_tried_again_less_and_less_often_and_is_archived_when_that_works(
    ended: Callable[[], str], viewer: Client
) -> None:
    job_id = ended()
    (chunk,) = LogChunk.query(f"{job_id}#1")
    packed = chunk.packed
    damage(job_id)
    tries = []
    for minute in range(40):
        with clock.shifted(timedelta(minutes=minute)):
            before = Job.find(job_id)
            logs_archive()
            after = Job.find(job_id)
        assert before is not None
        assert after is not None
        if after.log_failures != before.log_failures:
            tries.append(minute)
    assert tries == [0, 1, 3, 7, 15, 31]
    chunk.update(actions=[LogChunk.packed.set(packed)])
    with clock.shifted(timedelta(hours=3)):
        assert logs_archive() == 1
    job = Job.find(job_id)
    assert job is not None
    assert (job.log_failures, job.log_retry_at, job.log_problem, job.open) == (None, None, None, None)
    assert whole(viewer, job_id) == b"what the job printed\n" * 100


def test_after_several_failures_the_job_says_so(ended: Callable[[], str], viewer: Client) -> None:
    job_id = ended()
    damage(job_id)
    for minute in (0, 1, 3):
        assert viewer.get(f"/jobs/{job_id}").json()["log_problem"] is None
        with clock.shifted(timedelta(minutes=minute)):
            logs_archive()
    problem = viewer.get(f"/jobs/{job_id}").json()["log_problem"]
    assert problem.startswith("The log could not be archived 3 times: an unexpected error occurred (ValueError)")


def test_a_log_that_takes_longer_than_a_sweep_is_given_up_and_the_others_are_archived(
    ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended()
    monkeypatch.setattr(log_archives, "_GIVE_UP_SECONDS", -1)
    assert logs_archive() == 0
    assert "too long" in str(job_get(job_id).log_problem)
    monkeypatch.undo()
    assert logs_archive() == 1


def test_while_the_storage_is_out_a_sweep_tries_three_logs_and_fails(
    ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [ended() for _ in range(5)]
    storage: Any = storages["logs"]

    def refuse(*_: Any) -> None:
        raise Unavailable("AWS (S3) is not available. Try again.")

    with monkeypatch.context() as context:
        context.setattr(storage, "save_stream", refuse)
        with pytest.raises(Unavailable):
            logs_archive()
        assert sum(job_get(job_id).log_failures is not None for job_id in jobs) == 3
    # The first failure of a log brings no pause.
    assert logs_archive() == 5


def test_a_full_disk_is_named(ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = ended()
    storage: Any = storages["logs"]

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_stream", refuse)
    assert logs_archive() == 0
    assert job_get(job_id).log_problem == "the storage of logs failed (No space left on device)"


def test_a_log_whose_job_gets_another_end_while_it_is_archived_is_archived_again(
    ended: Callable[[], str], viewer: Client
) -> None:
    job_id = ended()
    early = job_get(job_id)
    later = clock.timestamp(clock.now() + timedelta(seconds=1))
    LogChunk(f"{job_id}#1", 1, data=b"printed late\n", expires_at=clock.now() + timedelta(days=1)).save()
    Job(job_id).update(actions=[Job.completed_at.set(later)])
    log_archive(job=early)
    assert not is_archived(job_id)
    assert logs_archive() == 1
    # The slower of two processes still has the earlier end.
    log_archive(job=early)
    assert whole(viewer, job_id) == b"what the job printed\n" * 100 + b"printed late\n"
