"""``GET /jobs/{job_id}/log``: the bytes that the job printed, while it runs and afterwards."""

import random
from collections.abc import Callable

import pytest
import requests
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from apps.agents.services import agents_mark_silent
from apps.jobs.models import Job
from apps.jobs.selectors import job_get
from apps.jobs.serializers.jobs import LOG_SLICE_BYTES
from apps.jobs.services import leases_expire, log_archive, logs_archive
from tests.clients import Client, problem
from tests.polling import polled
from tests.signing import AgentClient, enrolled

# Every byte there is, so no encoding.
BINARY = bytes(range(256)) * 4


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


def read(client: Client, job_id: str, offset: int = 0) -> requests.Response:
    answer = client.get(f"/jobs/{job_id}/log?offset={offset}")
    assert answer.status_code == 200, answer.text
    return answer


def log_slice(client: Client, job_id: str, offset: int = 0) -> tuple[bytes, int, str]:
    """Content, X-Next-Offset and X-Log-Complete."""
    answer = read(client, job_id, offset)
    return answer.content, int(answer.headers["X-Next-Offset"]), answer.headers["X-Log-Complete"]


def whole(client: Client, job_id: str) -> bytes:
    """All there is of the log, slice by slice."""
    data, offset = b"", 0
    while True:
        more, after, complete = log_slice(client, job_id, offset)
        assert after == offset + len(more)
        data, offset = data + more, after
        if complete == "true" or not more:
            return data


def test_a_job_that_has_not_run_has_an_empty_log_that_is_not_complete(viewer: Client, job_id: str) -> None:
    assert log_slice(viewer, job_id) == (b"", 0, "false")


def test_a_job_that_was_cancelled_before_it_ran_has_an_empty_complete_log(operator: Client, job_id: str) -> None:
    operator.post(f"/jobs/{job_id}/cancel")
    assert log_slice(operator, job_id) == (b"", 0, "true")
    logs_archive()
    assert log_slice(operator, job_id) == (b"", 0, "true")


def test_the_log_grows_while_the_job_runs(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    assert log_slice(viewer, job_id) == (b"", 0, "false")
    agent.log(assignment, 0, b"one\n")
    assert log_slice(viewer, job_id) == (b"one\n", 4, "false")
    agent.log(assignment, 1, b"two\n", packed=True)
    assert log_slice(viewer, job_id, 4) == (b"two\n", 8, "false")
    assert log_slice(viewer, job_id, 8) == (b"", 8, "false")
    agent.finish(assignment, log_chunks=2)
    assert log_slice(viewer, job_id, 8) == (b"", 8, "true")
    assert log_slice(viewer, job_id) == (b"one\ntwo\n", 8, "true")


def test_the_answer_is_plain_text_that_no_browser_takes_for_a_page(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    agent.log(agent.take(), 0, b"<script>alert(1)</script>")
    answer = read(viewer, job_id)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.slow
def test_every_offset_gives_exactly_the_bytes_behind_it(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    for sequence, size in enumerate((1, 7, 300, 2, 64)):
        agent.log(assignment, sequence, BINARY[sequence : sequence + size])
    expected = b"".join(BINARY[sequence : sequence + size] for sequence, size in enumerate((1, 7, 300, 2, 64)))
    agent.finish(assignment, log_chunks=5)
    for stored in (False, True):
        if stored:
            log_archive(job=job_get(job_id))
        for offset in (0, 1, 7, 8, 9, 307, 308, 309, 310, 311, 373):
            # Once from what the process remembers of the sizes, once without.
            for _ in range(2):
                assert log_slice(viewer, job_id, offset) == (expected[offset:], 374, "true"), (stored, offset)
            cache.clear()


def test_an_offset_behind_the_end_gives_nothing_and_says_where_the_end_is(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"12345")
    for offset in (6, 1_000_000, 2**53):
        assert log_slice(viewer, job_id, offset) == (b"", 5, "false")
    agent.finish(assignment, log_chunks=1)
    assert log_slice(viewer, job_id, 2**53) == (b"", 5, "true")
    logs_archive()
    assert log_slice(viewer, job_id, 2**53) == (b"", 5, "true")


def test_a_wrong_offset_is_refused(viewer: Client, job_id: str) -> None:
    for query in (
        "offset=-1",
        "offset=",
        "offset=x",
        "offset=1.0",
        "offset=1_0",
        "offset=0x1",
        "offset=%D9%A1",
        f"offset={2**53 + 1}",
        "offset=" + "9" * 5000,
        "offset=1&offset=2",
    ):
        body = problem(viewer.get(f"/jobs/{job_id}/log?{query}"), 400, "invalid_input")
        assert body["errors"][0]["field"] == "offset", query
    assert problem(viewer.get(f"/jobs/{job_id}/log?from=1"), 400, "invalid_input")["errors"][0]["field"] == "from"


def test_a_chunk_that_is_sent_again_is_stored_once(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    for _ in range(3):
        agent.log(assignment, 0, b"once\n")
    assert log_slice(viewer, job_id) == (b"once\n", 5, "false")


def test_what_comes_behind_a_gap_is_shown_once_the_gap_is_filled(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"a")
    agent.log(assignment, 2, b"c")
    assert log_slice(viewer, job_id) == (b"a", 1, "false")
    assert log_slice(viewer, job_id, 1) == (b"", 1, "false")
    agent.log(assignment, 1, b"b")
    assert log_slice(viewer, job_id, 1) == (b"bc", 3, "false")


def test_a_gap_that_stays_hides_nothing_and_does_not_move_when_the_log_is_stored(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    assignment = agent.take()
    for sequence, data in ((0, b"a"), (2, b"c"), (999_999_999, b"z")):
        agent.log(assignment, sequence, data)
    agent.finish(assignment, log_chunks=4)
    for offset, rest in ((0, b"acz"), (1, b"cz"), (2, b"z")):
        assert log_slice(viewer, job_id, offset) == (rest, 3, "true")
    logs_archive()
    assert log_slice(viewer, job_id) == (b"acz", 3, "true")


def test_both_attempts_are_shown_one_after_the_other(
    server: str, operator: Client, job_id: str, agent: AgentClient
) -> None:
    agent.log_all(agent.take(), b"first attempt\n" * 20, size=100)
    with polled(50):
        agents_mark_silent()
        assert leases_expire() == 1
        assert log_slice(operator, job_id) == (b"first attempt\n" * 20, 280, "false")
        other = enrolled(server, name="build-2")
        assignment = other.take()
        assert assignment["attempt"] == 2
        other.log(assignment, 0, b"second attempt\n")
        expected = b"first attempt\n" * 20 + b"second attempt\n"
        assert log_slice(operator, job_id) == (expected, 295, "false")
        for offset in (99, 100, 279, 280, 281):
            assert log_slice(operator, job_id, offset) == (expected[offset:], 295, "false")
        other.finish(assignment, log_chunks=1)
        for _ in range(2):
            assert log_slice(operator, job_id) == (expected, 295, "true")
            assert log_slice(operator, job_id, 285) == (expected[285:], 295, "true")
            logs_archive()


@pytest.mark.slow
def test_a_log_of_5_megabytes_reads_in_slices_as_it_was_written(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    data = random.Random(20).randbytes(5_000_000)
    assignment = agent.take()
    chunks = agent.log_all(assignment, data)
    # It ends with a whole line.
    assert LOG_SLICE_BYTES - 10_000 < len(read(viewer, job_id).content) <= LOG_SLICE_BYTES
    assert whole(viewer, job_id) == data
    agent.finish(assignment, log_chunks=chunks)
    logs_archive()
    assert whole(viewer, job_id) == data
    assert log_slice(viewer, job_id, 4_999_990) == (data[-10:], 5_000_000, "true")


def test_storing_again_mends_what_a_broken_storing_left(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"the whole log")
    agent.finish(assignment, log_chunks=1)
    # A storing that broke off has left a file that no job names.
    storages["logs"].save(f"{job_id}-broken.log", ContentFile(b"the wh"))
    logs_archive()
    assert job_get(job_id).log_stored
    assert log_slice(viewer, job_id) == (b"the whole log", 13, "true")


def test_storing_is_for_jobs_that_have_ended_and_is_done_once(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"a")
    assert logs_archive() == 0
    log_archive(job=job_get(job_id))
    assert not job_get(job_id).log_stored
    agent.finish(assignment, log_chunks=1)
    assert (logs_archive(), logs_archive()) == (1, 0)
    stored = Job.find(job_id)
    assert stored is not None
    assert stored.log_stored
    assert stored.open is None
