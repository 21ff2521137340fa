"""How the chunks of a log are stored: compressed as they came, each once, and no more than the limit."""

import gzip
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache

from apps.jobs.models import LogChunk
from apps.jobs.services import log_limits, logs_archive
from tests.clients import Client, problem
from tests.jobs.test_job_log import log_slice, whole
from tests.metering import dynamodb_calls
from tests.signing import AgentClient

TEXT = b"".join(b"line %d of what the job printed\n" % number for number in range(2_000))
NOISE = random.Random(5).randbytes(100_000)


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


def chunks(job_id: str) -> list[LogChunk]:
    return list(LogChunk.query(f"{job_id}#1", LogChunk.sequence >= 0))


# --- chunks are stored compressed as they came ------------------------------------------------------------------------


def test_a_chunk_is_stored_compressed_as_it_came(job_id: str, agent: AgentClient) -> None:
    packed = gzip.compress(TEXT, mtime=0)
    answer = agent.send(agent.log_request(agent.take(), 0, packed, encoding="gzip"))
    assert answer.status_code == 200
    (chunk,) = chunks(job_id)
    assert (chunk.packed, chunk.size, chunk.data) == (packed, len(TEXT), None)


def test_a_chunk_of_an_older_agent_is_stored_as_it_is(job_id: str, agent: AgentClient) -> None:
    agent.log(agent.take(), 0, TEXT)
    (chunk,) = chunks(job_id)
    assert (chunk.packed, chunk.size, chunk.data) == (None, None, TEXT)


def test_a_chunk_that_compression_makes_larger_is_stored_without_it(job_id: str, agent: AgentClient) -> None:
    agent.log(agent.take(), 0, NOISE, packed=True)
    (chunk,) = chunks(job_id)
    assert (chunk.packed, chunk.data) == (None, NOISE)


def test_a_compressed_log_is_read_from_every_offset(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    sizes = (1, 600, 5_000, 2, 40_000)
    offsets = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    for sequence, size in enumerate(sizes):
        data = TEXT[offsets[sequence] : offsets[sequence] + size]
        agent.log(assignment, sequence, data, packed=sequence != 2)
    expected = TEXT[: offsets[-1]]
    agent.finish(assignment, log_chunks=len(sizes))
    for stored in (0, 1):
        assert logs_archive() == stored if stored else True
        for offset in {max(0, edge + difference) for edge in offsets for difference in (-1, 0, 1)}:
            for _ in range(2):
                assert log_slice(viewer, job_id, offset)[0] == expected[offset:], (stored, offset)
            cache.clear()


def test_a_chunk_with_several_gzip_streams_is_refused(job_id: str, agent: AgentClient) -> None:
    body = gzip.compress(b"a") * 1000
    answer = agent.send(agent.log_request(agent.take(), 0, body, encoding="gzip"))
    assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "body"


# --- a chunk is written once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_a_chunk_number_with_other_content_is_refused_and_the_first_stays(
    viewer: Client, job_id: str, agent: AgentClient, packed: bool
) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"what was printed\n" * 100, packed=packed)
    for other in (b"rewritten\n", b"", b"what was printed\n" * 101):
        for form in (False, True):
            problem(agent.log(assignment, 0, other, packed=form), 409, "log_chunk_conflict")
    assert log_slice(viewer, job_id)[0] == b"what was printed\n" * 100


def test_the_same_content_again_is_no_conflict_in_any_form(job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    for data in (TEXT, b""):
        sequence = int(not data)
        for form in (True, False, True):
            assert agent.log(assignment, sequence, data, packed=form).status_code == 200
    assert len(chunks(job_id)) == 2


def test_of_two_contents_for_one_number_at_once_one_is_kept(viewer: Client, job_id: str, agent: AgentClient) -> None:
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
    assert log_slice(viewer, job_id)[0] == kept


# --- logs are bounded -------------------------------------------------------------------------------------------------


def test_an_attempt_whose_agent_ignores_the_limit_keeps_its_job_and_not_its_output(
    viewer: Client, job_id: str, agent: AgentClient, settings: Any
) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 2
    assignment = agent.take()
    for sequence in range(60):
        assert agent.log(assignment, sequence, NOISE).status_code == 200, sequence
    kept = [chunk for chunk in chunks(job_id) if chunk.sequence < 60]
    assert 20 <= len(kept) <= 40
    assert agent.finish(assignment, log_chunks=60).status_code == 200
    log = whole(viewer, job_id)
    assert log.startswith(NOISE * len(kept))
    assert "── cut off here: the log has reached its limit of 2 MB, and the agent sent more" in log.decode(
        errors="replace"
    )
    logs_archive()
    assert whole(viewer, job_id) == log


def test_processes_count_a_log_together(job_id: str, agent: AgentClient, settings: Any) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 2
    assignment = agent.take()
    for sequence in range(80):
        if sequence % 10 == 0:
            # As if another process answered from now on.
            cache.clear()
        assert agent.log(assignment, sequence, NOISE).status_code == 200
    assert 20 <= len([chunk for chunk in chunks(job_id) if chunk.sequence < 80]) <= 40


def test_many_small_chunks_fill_a_log_too(job_id: str, agent: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_limits, "CHUNKS_MAX", 30)
    monkeypatch.setattr(log_limits, "_COUNTED_CHUNKS", 10)
    assignment = agent.take()
    for sequence in range(60):
        assert agent.log(assignment, sequence, b"x").status_code == 200
    assert len([chunk for chunk in chunks(job_id) if chunk.sequence < 60]) == 40


def test_a_log_below_a_megabyte_costs_no_count(job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    cache.clear()
    with dynamodb_calls() as metering:
        for sequence in range(9):
            agent.log(assignment, sequence, NOISE)
    assert metering.operations.count("PutItem") == 9
    assert LogChunk.count(f"{job_id}#1") == 9
