"""Taking the output of an attempt from its agent: chunk by chunk, each once, and with each answer a cancel request."""

import gzip
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.cache import cache

from apps.jobs.models import CHUNK_LIMIT, Job, LogChunk
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    attempt_expire,
    attempt_finish,
    attempt_start,
    job_cancel,
    jobs_claim,
    log_append,
    logs_archive,
)
from apps.jobs.services.attempts import AttemptResult
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, NotFound, TooLarge
from controlplane.lib.ids import new_id
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.jobs.conftest import MakeAgent
from tests.jobs.test_job_log import log_slice
from tests.metering import dynamodb_calls
from tests.signing import AgentClient

TEXT = b"what the job printed\n" * 100


@pytest.fixture
def machine(make_agent: MakeAgent) -> Actor:
    return make_agent()


@pytest.fixture
def job_id(make_job: Callable[..., str], machine: Actor) -> str:
    """A job that the machine runs, in attempt 1."""
    return taken(make_job(), machine)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds pass for what the process caches."""
    passed = [0.0]
    now = clock.now().timestamp()
    watch = SimpleNamespace(time=lambda: now + passed[0])
    monkeypatch.setattr("django.core.cache.backends.base.time", watch)
    monkeypatch.setattr("django.core.cache.backends.locmem.time", watch)

    def pass_by(seconds: float) -> None:
        passed[0] += seconds

    return pass_by


def taken(job_id: str, machine: Actor) -> str:
    ((claimed),) = jobs_claim(agent=machine, sets=queue_registry().sets_for(()), limit=1)
    assert claimed.job_id == job_id
    attempt_start(agent=machine, job_id=job_id, attempt=claimed.attempt)
    return job_id


def append(machine: Actor, job_id: str, sequence: int, data: bytes = b"x", **members: object) -> str | None:
    arguments = {"attempt": 1, **members}
    return log_append(agent_id=machine.id, job_id=job_id, sequence=sequence, data=data, **arguments)  # type: ignore[arg-type]


def chunks(job_id: str, attempt: int = 1) -> list[LogChunk]:
    return list(LogChunk.query(f"{job_id}#{attempt}"))


def refused(act: Callable[[], object], kind: type[ApplicationError]) -> str:
    with pytest.raises(kind) as refusal:
        act()
    return str(refusal.value.code)


# --- the gate -------------------------------------------------------------------------------------------------------


def test_an_agent_that_sends_many_chunks_costs_one_read_a_second(
    job_id: str, machine: Actor, wait: Callable[[float], None]
) -> None:
    with dynamodb_calls() as metering:
        for sequence in range(10):
            append(machine, job_id, sequence)
            wait(0.09)
    assert metering.operations == ["GetItem", *["PutItem"] * 10]
    wait(0.2)
    with dynamodb_calls() as metering:
        append(machine, job_id, 10)
    assert metering.operations[0] == "GetItem"


def test_a_cancel_request_reaches_an_agent_that_sends_chunks_within_a_second_and_with_each_chunk_after_it(
    job_id: str, machine: Actor, wait: Callable[[float], None]
) -> None:
    assert append(machine, job_id, 0) is None
    job_cancel(actor=ADMIN, job_id=job_id)
    wait(0.9)
    assert append(machine, job_id, 1) is None
    wait(0.2)
    assert [append(machine, job_id, sequence) for sequence in (2, 3)] == ["cancel", "cancel"]
    wait(1.1)
    assert append(machine, job_id, 4) == "cancel"


def test_an_attempt_that_was_lost_to_another_is_refused_within_a_second(
    job_id: str, machine: Actor, make_agent: MakeAgent, wait: Callable[[float], None]
) -> None:
    append(machine, job_id, 0)
    assert attempt_expire(agent_id=machine.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="a test")
    # As long as no other attempt has begun, the log of this one goes on.
    wait(1.1)
    append(machine, job_id, 1)
    taken(job_id, make_agent())
    wait(1.1)
    assert refused(lambda: append(machine, job_id, 2), Conflict) == "stale_attempt"
    assert [chunk.sequence for chunk in chunks(job_id)] == [0, 1]


def test_the_gate_of_one_attempt_lets_no_other_agent_job_or_attempt_through(
    job_id: str, machine: Actor, make_agent: MakeAgent, make_job: Callable[..., str]
) -> None:
    other_job = make_job()
    append(machine, job_id, 0)
    assert refused(lambda: append(make_agent(), job_id, 1), Conflict) == "stale_attempt"
    assert refused(lambda: append(machine, other_job, 1), Conflict) == "stale_attempt"
    assert refused(lambda: append(machine, job_id, 1, attempt=2), Conflict) == "stale_attempt"
    assert refused(lambda: append(machine, new_id(), 1), NotFound) == "job_not_found"
    assert len(chunks(job_id)) == 1


def test_an_attempt_that_has_ended_takes_no_more_output(job_id: str, machine: Actor) -> None:
    result = AttemptResult(exit_code=0, error_message=None, steps=[], log_chunks=0, commit=None)
    attempt_finish(agent=machine, job_id=job_id, attempt=1, result=result)
    assert refused(lambda: append(machine, job_id, 0), Conflict) == "stale_attempt"


def test_a_refused_chunk_opens_no_gate(job_id: str, machine: Actor, make_agent: MakeAgent) -> None:
    stranger = make_agent()
    for _ in range(2):
        refused(lambda: append(stranger, job_id, 0), Conflict)
    assert chunks(job_id) == []


# --- chunks ---------------------------------------------------------------------------------------------------------


def test_a_chunk_is_kept_for_14_days(job_id: str, machine: Actor, now: str) -> None:
    append(machine, job_id, 0)
    (chunk,) = chunks(job_id)
    expected = clock.now() + timedelta(days=14)
    assert (chunk.sequence, chunk.data) == (0, b"x")
    assert chunk.expires_at == expected.replace(microsecond=0)


def test_the_largest_chunk_is_taken_and_a_larger_one_is_not(job_id: str, machine: Actor) -> None:
    append(machine, job_id, 0, b"x" * CHUNK_LIMIT)
    assert refused(lambda: append(machine, job_id, 1, b"x" * (CHUNK_LIMIT + 1)), TooLarge) == "log_chunk_too_large"
    assert len(chunks(job_id)) == 1


def test_chunks_are_numbered_from_0(job_id: str, machine: Actor) -> None:
    with pytest.raises(InvalidInput) as refusal:
        append(machine, job_id, -1)
    assert refusal.value.errors == [{"field": "sequence", "message": "must be a whole number from 0"}]


def test_a_chunk_is_stored_in_its_smaller_form(job_id: str, machine: Actor) -> None:
    packed = gzip.compress(TEXT)
    forms = [(TEXT, packed), (b"x", gzip.compress(b"x")), (TEXT, None), (b"12345", b"abcde")]
    for sequence, (data, compressed) in enumerate(forms):
        append(machine, job_id, sequence, data, packed=compressed)
    stored = [(chunk.data, chunk.packed, chunk.size) for chunk in chunks(job_id)]
    assert stored == [(None, packed, len(TEXT)), (b"x", None, None), (TEXT, None, None), (b"12345", None, None)]


def test_a_chunk_that_is_sent_again_is_kept_and_counted_once(
    job_id: str, machine: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr("apps.jobs.services.logs.log_count", lambda stream, size, **_: counted.append(size))
    for form in (None, gzip.compress(TEXT), None):
        append(machine, job_id, 0, TEXT, packed=form)
    assert (len(chunks(job_id)), counted) == (1, [len(TEXT)])


def test_a_chunk_with_other_content_than_the_stored_one_is_refused(job_id: str, machine: Actor) -> None:
    append(machine, job_id, 0, b"a")
    assert refused(lambda: append(machine, job_id, 0, b"b"), Conflict) == "log_chunk_conflict"
    assert [chunk.data for chunk in chunks(job_id)] == [b"a"]


def test_a_stored_chunk_that_is_gone_when_it_is_compared_is_no_conflict(
    job_id: str, machine: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(machine, job_id, 0, b"a")
    monkeypatch.setattr("apps.jobs.services.logs.chunk_get", lambda *_: None)
    assert append(machine, job_id, 0, b"b") is None


def test_a_full_log_takes_no_chunk_and_still_brings_the_cancel_request(
    job_id: str, machine: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.services.logs.log_is_full", lambda *_, **__: True)
    assert append(machine, job_id, 0) is None
    job_cancel(actor=ADMIN, job_id=job_id)
    cache.clear()
    assert append(machine, job_id, 1) == "cancel"
    assert chunks(job_id) == []
    assert Job.get(job_id).cancel_requested


# --- over HTTP --------------------------------------------------------------------------------------------------------

LINES = b"".join(b"line %d of what the job printed\n" % number for number in range(2_000))
NOISE = random.Random(5).randbytes(100_000)


@pytest.fixture
def queued_job(make_job: Callable[..., str]) -> str:
    return make_job()


def numbered(job_id: str) -> list[LogChunk]:
    """The chunks of attempt 1 without what processes have written down of its size."""
    return list(LogChunk.query(f"{job_id}#1", LogChunk.sequence >= 0))


# --- chunks are stored compressed as they came ------------------------------------------------------------------------


def test_a_chunk_is_stored_compressed_as_it_came(queued_job: str, agent: AgentClient) -> None:
    packed = gzip.compress(LINES, mtime=0)
    answer = agent.send(agent.log_request(agent.take(), 0, packed, encoding="gzip"))
    assert answer.status_code == 200
    (chunk,) = numbered(queued_job)
    assert (chunk.packed, chunk.size, chunk.data) == (packed, len(LINES), None)


def test_a_chunk_of_an_older_agent_is_stored_as_it_is(queued_job: str, agent: AgentClient) -> None:
    agent.log(agent.take(), 0, LINES)
    (chunk,) = numbered(queued_job)
    assert (chunk.packed, chunk.size, chunk.data) == (None, None, LINES)


def test_a_chunk_that_compression_makes_larger_is_stored_without_it(queued_job: str, agent: AgentClient) -> None:
    agent.log(agent.take(), 0, NOISE, packed=True)
    (chunk,) = numbered(queued_job)
    assert (chunk.packed, chunk.data) == (None, NOISE)


def test_a_compressed_log_is_read_from_every_offset(viewer: Client, queued_job: str, agent: AgentClient) -> None:
    assignment = agent.take()
    sizes = (1, 600, 5_000, 2, 40_000)
    offsets = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    for sequence, size in enumerate(sizes):
        data = LINES[offsets[sequence] : offsets[sequence] + size]
        agent.log(assignment, sequence, data, packed=sequence != 2)
    expected = LINES[: offsets[-1]]
    agent.finish(assignment, log_chunks=len(sizes))
    for stored in (0, 1):
        assert logs_archive() == stored if stored else True
        for offset in {max(0, edge + difference) for edge in offsets for difference in (-1, 0, 1)}:
            for _ in range(2):
                assert log_slice(viewer, queued_job, offset)[0] == expected[offset:], (stored, offset)
            cache.clear()


def test_a_chunk_with_several_gzip_streams_is_refused(queued_job: str, agent: AgentClient) -> None:
    body = gzip.compress(b"a") * 1000
    answer = agent.send(agent.log_request(agent.take(), 0, body, encoding="gzip"))
    assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "body"


# --- a chunk is written once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_a_chunk_number_with_other_content_is_refused_and_the_first_stays(
    viewer: Client, queued_job: str, agent: AgentClient, packed: bool
) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"what was printed\n" * 100, packed=packed)
    for other in (b"rewritten\n", b"", b"what was printed\n" * 101):
        for form in (False, True):
            problem(agent.log(assignment, 0, other, packed=form), 409, "log_chunk_conflict")
    assert log_slice(viewer, queued_job)[0] == b"what was printed\n" * 100


def test_the_same_content_again_is_no_conflict_in_any_form(queued_job: str, agent: AgentClient) -> None:
    assignment = agent.take()
    for data in (LINES, b""):
        sequence = int(not data)
        for form in (True, False, True):
            assert agent.log(assignment, sequence, data, packed=form).status_code == 200
    assert len(numbered(queued_job)) == 2


def test_of_two_contents_for_one_number_at_once_one_is_kept(
    viewer: Client, queued_job: str, agent: AgentClient
) -> None:
    assignment = agent.take()
    answers: list[tuple[bytes, int]] = []

    def send(data: bytes) -> None:
        answers.append((data, agent.log(assignment, 0, data).status_code))

    threads = [threading.Thread(target=send, args=(b"%d\n" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for _, status in answers) == [200] + [409] * 7
    (kept,) = [data for data, status in answers if status == 200]
    assert log_slice(viewer, queued_job)[0] == kept
