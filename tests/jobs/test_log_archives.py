"""Archiving logs: each once, as one file that its job names; a log that cannot be archived is tried again later."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.files.storage import storages

from apps.jobs.models import Job, LogChunk
from apps.jobs.selectors import job_get
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    attempt_expire,
    attempt_start,
    job_cancel,
    jobs_claim,
    log_archive,
    log_archives,
    logs_archive,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock, metric_names
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import Work, at_work
from tests.clients import Client
from tests.conftest import ADMIN
from tests.interleaving import before_call, every_order
from tests.jobs.conftest import MakeAgent, changes, stored_job
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
    # The slower of two processes still has the earlier end. It takes its file away again.
    log_archive(job=early)
    assert files(job_id) == [job_get(job_id).log_stored]
    assert whole(viewer, job_id) == b"what the job printed\n" * 100 + b"printed late\n"


# --- one file, whatever happens while it is written -------------------------------------------------------------------


def files(job_id: str) -> list[str]:
    """The files of the job in the storage, also unfinished ones."""
    storage: Any = storages["logs"]
    # Each log has an index beside it.
    return sorted({name.removesuffix(".index") for name in storage.listdir("")[1] if job_id in name})


def content(name: str) -> bytes:
    storage: Any = storages["logs"]
    data: bytes = storage.read_range(name, 0, 1_000_000)[0]
    return data


def test_two_processes_that_archive_one_log_at_once_leave_one_whole_file(ended: Callable[[], str]) -> None:
    for order in every_order():
        job_id = ended()
        order.race(partial(log_archive, job=job_get(job_id)), partial(log_archive, job=job_get(job_id)))
        assert files(job_id) == [job_get(job_id).log_stored]
        assert content(files(job_id)[0]) == b"what the job printed\n" * 100


def test_an_archiving_changes_these_attributes_of_the_job_and_no_others(ended: Callable[[], str]) -> None:
    job_id = ended()
    Job(job_id).update(
        actions=[Job.log_failures.set(1), Job.log_retry_at.set("2026-11-21T09:00:00Z"), Job.log_problem.set("x")]
    )
    found = stored_job(job_id)
    log_archive(job=job_get(job_id))
    gone = dict.fromkeys(("open", "log_failures", "log_retry_at", "log_problem"))
    digits = "".join(filter(str.isdigit, found["completed_at"]))
    assert changes(found, stored_job(job_id)) == {"log_stored": f"{job_id}-{digits}.log", **gone}


def test_a_crash_between_the_file_and_its_link_leaves_a_file_that_the_next_sweep_links(
    ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended()
    with monkeypatch.context() as context:
        context.setattr(Job, "update", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            log_archive(job=job_get(job_id))
    assert not is_archived(job_id)
    assert logs_archive() == 1
    assert files(job_id) == [job_get(job_id).log_stored]


def test_a_log_that_breaks_off_leaves_no_part_of_a_file(ended: Callable[[], str]) -> None:
    job_id = ended()
    LogChunk(f"{job_id}#1", 1, packed=b"damaged", size=1, expires_at=clock.now() + timedelta(days=1)).save()
    with pytest.raises(ValueError, match=r"damaged|gzip|chunk"):
        log_archive(job=job_get(job_id))
    assert files(job_id) == []


def test_a_process_whose_job_has_another_end_or_is_gone_when_it_links_the_file_takes_the_file_away(
    ended: Callable[[], str],
) -> None:
    later = clock.timestamp(clock.now() + timedelta(seconds=1))
    acts: list[Callable[[Job], object]] = [
        lambda job: Job(job.job_id).update(actions=[Job.completed_at.set(later)]),
        lambda job: Job(job.job_id).update(actions=[Job.status.set("running")]),
        lambda job: job.delete(),
    ]
    for act in acts:
        job_id = ended()
        job = job_get(job_id)
        with before_call(partial(act, job), operations=frozenset({"UpdateItem"})):
            log_archive(job=job)
        assert files(job_id) == []


def test_a_job_that_has_not_ended_or_never_ran_leaves_no_file(make_job: Callable[..., str]) -> None:
    job_id = make_job()
    log_archive(job=job_get(job_id))
    assert job_get(job_id).open
    job_cancel(actor=ADMIN, job_id=job_id)
    log_archive(job=job_get(job_id))
    assert (files(job_id), job_get(job_id).open, job_get(job_id).log_stored) == ([], None, None)


# --- when a log is due ------------------------------------------------------------------------------------------------


def test_the_log_of_a_lost_job_is_archived_five_seconds_after_its_end_since_chunks_may_arrive_until_then(
    make_job: Callable[..., str], make_agent: MakeAgent, pipeline: str, now: str
) -> None:
    repository, definition = "https://git.example.com/app.git", "retries: 0\nsteps: [{run: make}]"
    pipeline_save(actor=ADMIN, name="once", repository=repository, default_ref="main", definition=definition)
    job_id, machine = make_job(pipeline="once"), make_agent()
    jobs_claim(agent=machine, sets=queue_registry().sets_for(()), limit=1)
    attempt_start(agent=machine, job_id=job_id, attempt=1)
    attempt_expire(agent_id=machine.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="it is silent")
    assert job_get(job_id).status == "failed"
    for seconds, archived in ((0, 0), (5, 0), (5.001, 1)):
        with clock.shifted(timedelta(seconds=seconds)):
            assert logs_archive() == archived, seconds


def test_a_log_is_not_tried_again_before_its_pause_is_over(ended: Callable[[], str], now: str) -> None:
    job_id = ended()
    for seconds, archived in ((-0.001, 0), (0, 1)):
        with clock.shifted(timedelta(seconds=seconds)):
            Job(job_id).update(actions=[Job.log_retry_at.set(now)])
            assert logs_archive() == archived


def test_a_failure_is_noted_with_its_number_its_reason_and_the_next_try(ended: Callable[[], str], now: str) -> None:
    job_id = ended()
    damage(job_id)
    expected = {1: 0, 2: 2, 3: 4, 4: 8, 5: 16, 6: 32, 7: 60, 8: 60}
    for failures, minutes in expected.items():
        Job(job_id).update(actions=[Job.log_retry_at.remove()])
        assert logs_archive() == 0
        job = job_get(job_id)
        next_try = clock.timestamp(clock.now() + timedelta(minutes=minutes))
        assert (job.log_failures, job.log_retry_at) == (failures, next_try)
    assert str(job.log_problem).startswith("an unexpected error occurred (")


def test_a_failure_after_another_process_has_archived_the_log_is_not_noted(
    ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended()
    storage: Any = storages["logs"]
    save = storage.save_stream

    def save_and_fail(*arguments: Any) -> None:
        monkeypatch.setattr(storage, "save_stream", save)
        log_archive(job=job_get(job_id))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "save_stream", save_and_fail)
    assert logs_archive() == 0
    assert (job_get(job_id).log_failures, is_archived(job_id)) == (None, True)


def test_a_sweep_archives_at_most_a_hundred_logs_and_ends_with_the_first_after_ten_seconds(
    ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        ended()
    monkeypatch.setattr(log_archives, "_LOGS_AT_ONCE", 2)
    assert logs_archive() == 2
    monkeypatch.setattr(log_archives, "_LOGS_AT_ONCE", 100)
    moments = iter([0.0, 10.0, 10.1])
    monkeypatch.setattr(log_archives, "time", SimpleNamespace(monotonic=lambda: next(moments, 11.0)))
    assert (log_archives._LOGS_SECONDS, log_archives._GIVE_UP_SECONDS) == (10, 22)
    with monkeypatch.context() as context:
        context.setattr(log_archives, "log_archive", lambda **_: None)
        assert logs_archive() == 2


def test_an_outage_in_which_one_log_was_archived_does_not_fail_the_sweep(
    ended: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        ended()
    answers = iter([True, False, False, True, False, False, False])

    def archive(**_: Any) -> None:
        if not next(answers):
            raise Unavailable("AWS (S3) is not available. Try again.")

    monkeypatch.setattr(log_archives, "log_archive", archive)
    assert logs_archive() == 2
    # The next one meets two more failures in a row: three of the five, and then the storage counts as out.
    answers = iter([False, False, False, True])
    with pytest.raises(Unavailable):
        logs_archive()
    assert list(answers) == [True]
