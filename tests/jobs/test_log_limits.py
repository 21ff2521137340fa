"""The limit of a log, against agents that do not keep it themselves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache

from apps.jobs.models import LogChunk
from apps.jobs.selectors.logs import counts_read
from apps.jobs.services import log_limits, logs_archive
from apps.jobs.services.log_limits import log_count, log_is_full
from controlplane.lib import clock
from tests.clients import Client
from tests.jobs.test_job_log import whole
from tests.jobs.test_logs import NOISE, numbered
from tests.metering import dynamodb_calls
from tests.signing import AgentClient


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


@pytest.mark.slow
def test_an_attempt_whose_agent_ignores_the_limit_keeps_its_job_and_not_its_output(
    viewer: Client, job_id: str, agent: AgentClient, settings: Any
) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 2
    assignment = agent.take()
    for sequence in range(60):
        assert agent.log(assignment, sequence, NOISE).status_code == 200, sequence
    kept = [chunk for chunk in numbered(job_id) if chunk.sequence < 60]
    assert 20 <= len(kept) <= 40
    assert agent.finish(assignment, log_chunks=60).status_code == 200
    log = whole(viewer, job_id)
    assert log.startswith(NOISE * len(kept))
    assert "── cut off here: the log has reached its limit of 2 MB, and the agent sent more" in log.decode(
        errors="replace"
    )
    logs_archive()
    assert whole(viewer, job_id) == log


@pytest.mark.slow
def test_processes_count_a_log_together(job_id: str, agent: AgentClient, settings: Any) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 2
    assignment = agent.take()
    for sequence in range(80):
        if sequence % 10 == 0:
            # As if another process answered from now on.
            cache.clear()
        assert agent.log(assignment, sequence, NOISE).status_code == 200
    assert 20 <= len([chunk for chunk in numbered(job_id) if chunk.sequence < 80]) <= 40


def test_many_small_chunks_fill_a_log_too(job_id: str, agent: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_limits, "CHUNKS_MAX", 30)
    monkeypatch.setattr(log_limits, "_COUNTED_CHUNKS", 10)
    assignment = agent.take()
    for sequence in range(60):
        assert agent.log(assignment, sequence, b"x").status_code == 200
    assert len([chunk for chunk in numbered(job_id) if chunk.sequence < 60]) == 40


def test_a_log_below_a_megabyte_costs_no_count(job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    cache.clear()
    with dynamodb_calls() as metering:
        for sequence in range(9):
            agent.log(assignment, sequence, NOISE)
    assert metering.operations.count("PutItem") == 9
    assert LogChunk.count(f"{job_id}#1") == 9


# --- counting ---------------------------------------------------------------------------------------------------------

STREAM = "job#1"
MEGABYTE = 1_000_000


def count(*sizes: int) -> None:
    for size in sizes:
        log_count(STREAM, size, expires_at=clock.now() + timedelta(days=1))


def is_full(sequence: int = 10) -> bool:
    return log_is_full(STREAM, sequence, expires_at=clock.now() + timedelta(days=1))


def written() -> list[tuple[int, int]]:
    """What the processes have written down: bytes and chunks."""
    return [(int(row.size), int(row.chunks)) for row in counts_read(STREAM)]


def cut_line() -> bytes | None:
    found = list(LogChunk.query(STREAM, LogChunk.sequence == 10**9))
    return found[0].data if found else None


def test_a_process_writes_its_total_after_each_megabyte_over_the_one_before(tables: None) -> None:
    count(MEGABYTE - 1)
    assert written() == []
    count(1)
    assert written() == [(MEGABYTE, 2)]
    count(MEGABYTE - 1)
    assert written() == [(MEGABYTE, 2)]
    count(1)
    assert written() == [(2 * MEGABYTE, 4)]
    cache.clear()
    count(MEGABYTE)
    assert sorted(written()) == [(MEGABYTE, 1), (2 * MEGABYTE, 4)]


def test_a_process_writes_its_total_after_a_thousand_chunks(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_limits._COUNTED_CHUNKS == 1000
    monkeypatch.setattr(log_limits, "_COUNTED_CHUNKS", 3)
    for expected in ([], [], [(3, 3)], [(3, 3)], [(3, 3)], [(6, 6)]):
        count(1)
        assert written() == expected


@pytest.mark.parametrize(("size", "is_over"), [(3 * MEGABYTE, False), (3 * MEGABYTE + 1, True)])
def test_a_log_is_full_a_megabyte_above_its_limit_and_says_so_at_its_end(
    tables: None, settings: Any, size: int, is_over: bool
) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 2
    count(size)
    assert is_full() is is_over
    # Also for a process that has stored nothing of it yet.
    cache.clear()
    assert is_full() is is_over
    line = "\n── cut off here: the log has reached its limit of 2 MB, and the agent sent more\n"
    assert cut_line() == (line.encode() if is_over else None)


@pytest.mark.parametrize(("chunks", "is_over"), [(5, False), (6, True)])
def test_a_log_of_too_many_chunks_is_full(
    tables: None, monkeypatch: pytest.MonkeyPatch, chunks: int, is_over: bool
) -> None:
    assert log_limits.CHUNKS_MAX == 500_000
    monkeypatch.setattr(log_limits, "CHUNKS_MAX", 5)
    monkeypatch.setattr(log_limits, "_COUNTED_CHUNKS", chunks)
    count(*[1] * chunks)
    assert is_full() is is_over


def test_a_limit_is_at_least_a_megabyte(settings: Any) -> None:
    for megabytes, limit in ((0, MEGABYTE), (-5, MEGABYTE), (1, MEGABYTE), (100, 100 * MEGABYTE)):
        settings.ATTEMPT_LOG_LIMIT_MB = megabytes
        assert log_limits.log_limit() == limit


@pytest.mark.parametrize(("sequence", "reads"), [(9, 0), (10, 1)])
def test_a_process_looks_what_others_have_stored_from_the_tenth_chunk_on_unless_it_counts_itself(
    tables: None, sequence: int, reads: int
) -> None:
    with dynamodb_calls() as metering:
        assert is_full(sequence) is False
    assert metering.calls == reads
    count(1)
    with dynamodb_calls() as metering:
        assert is_full(sequence) is False
    assert metering.calls == 0


def test_a_full_log_is_known_to_its_process_for_a_day_without_a_read(tables: None, settings: Any) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 1
    count(3 * MEGABYTE)
    with dynamodb_calls() as metering:
        assert is_full(0) is True
    assert metering.calls == 0
    assert log_limits._REMEMBERED_SECONDS == 24 * 3600


def test_what_is_counted_and_the_last_line_expire_with_the_chunks(tables: None, settings: Any, now: str) -> None:
    settings.ATTEMPT_LOG_LIMIT_MB = 1
    count(3 * MEGABYTE)
    expected = (clock.now() + timedelta(days=1)).replace(microsecond=0)
    assert {row.expires_at for row in LogChunk.query(STREAM)} == {expected}
