"""``GET /jobs/{job_id}/log`` by attempt and by step, with times, and by ranges of bytes."""

import itertools
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.core.files.storage import storages
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.jobs.log_index import LogIndex, indexes_dump
from apps.jobs.models import Job, LogChunk
from apps.jobs.selectors import attempt_log, job_get, log_attempts, log_part, part_lines
from apps.jobs.selectors.log_lines import log_lines
from apps.jobs.services import attempt_expire, log_archive
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.examples import examples
from tests.signing import AgentClient

FIRST = b"fetch\n" + "── step 1/2: lint\n".encode() + b"fine\n" + "── step 2/2: test\n".encode() + b"lost\n"
TITLES = ("── step 1/2: lint\n".encode(), "── step 2/2: test\n".encode())
SECOND = (b"fetch\n", TITLES[0] + b"fine\n", TITLES[1] + b"E   assert 1 == 2\n", b"bye")


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


@pytest.fixture
def lost_and_failed(job_id: str, agent: AgentClient) -> str:
    """A job whose first attempt was lost and whose second one has failed."""
    agent.log(agent.take(), 0, FIRST)
    attempt_expire(
        agent_id=agent.agent_id, job_id=job_id, attempt=1, heartbeat_at=None, reason="lost: no heartbeat for 45 s"
    )
    assignment = agent.take()
    for sequence, chunk in enumerate(SECOND):
        agent.log(assignment, sequence, chunk)
    agent.finish(assignment, exit_code=1, log_chunks=len(SECOND))
    return job_id


def log(client: Client, job_id: str, query: str = "", status: int = 200, **headers: str) -> requests.Response:
    answer = client.get(f"/jobs/{job_id}/log?{query}", headers=headers)
    assert answer.status_code == status, answer.text
    return answer


archived_or_not = pytest.mark.parametrize("archived", [False, True], ids=["chunks", "archived"])


@archived_or_not
def test_attempt_and_step_choose_what_of_a_log_is_read(viewer: Client, lost_and_failed: str, archived: bool) -> None:
    job_id = lost_and_failed
    if archived:
        log_archive(job=job_get(job_id))
    second = b"".join(SECOND)
    lint, test = TITLES[0] + b"fine\n", TITLES[1] + b"E   assert 1 == 2\nbye"
    for query, expected in (
        ("", FIRST + second),
        ("attempt=1", FIRST),
        ("attempt=2", second),
        ("step=1", lint),
        ("step=2", test),
        ("attempt=1&step=1", lint),
        ("attempt=1&step=2", TITLES[1] + b"lost\n"),
        ("attempt=2&offset=6", second[6:]),
        ("step=2&tail=1", b"bye"),
        ("attempt=1&tail=2", TITLES[1] + b"lost\n"),
        ("step=2&offset=23&limit=18", test[23:40]),
        ("attempt=1&download", FIRST),
        ("step=1&download", lint),
    ):
        answer = log(viewer, job_id, query)
        assert answer.content == expected, query
        if "download" not in query:
            end = {"1": FIRST, "2": second}.get(query[8:9], FIRST + second) if "step" not in query else None
            assert answer.headers["X-Log-Complete"] == ("false" if "limit" in query else "true"), query
            assert end is None or int(answer.headers["X-Next-Offset"]) == len(end), query
    part, parts = log(viewer, job_id, "attempt=2&step=2&limit=21"), []
    while parts.append(part.content) or "next" in part.links:  # type: ignore[func-returns-value]
        assert len(parts[-1]) <= 21
        part = viewer.get(part.links["next"]["url"].removeprefix(viewer.server))
    assert b"".join(parts) == test
    file = log(viewer, job_id, "attempt=2&step=1&download").headers["Content-Disposition"]
    assert file == f'attachment; filename="job-{job_id}-attempt-2-step-1.log"'


def test_an_attempt_or_a_step_that_does_not_exist_is_a_problem_that_names_it(
    viewer: Client, lost_and_failed: str
) -> None:
    for address in ("log", "log/search"):
        for query, status, code, field in (
            ("attempt=3", 404, "log_not_found", "attempt"),
            ("step=3", 404, "log_not_found", "step"),
            ("attempt=1&step=9", 404, "log_not_found", "step"),
            ("attempt=0", 400, "invalid_input", "attempt"),
            ("attempt=last", 400, "invalid_input", "attempt"),
            ("step=lint", 400, "invalid_input", "step"),
        ):
            answer = viewer.get(
                f"/jobs/{lost_and_failed}/{address}?{query}&q=x".replace("&q=x", "&q=x" * (address != "log"))
            )
            body = problem(answer, status, code)
            assert [error["field"] for error in body["errors"]] == [field]
            assert "must be" in body["errors"][0]["message"]


def test_a_step_that_has_not_begun_has_an_empty_log_that_is_followed(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"fetch\n" + TITLES[0] + b"fine\n")
    for step, complete in (("1", "false"), ("2", "false")):
        assert log(viewer, job_id, f"step={step}").headers["X-Log-Complete"] == complete
    assert log(viewer, job_id, "step=2").content == b""
    agent.log(assignment, 1, TITLES[1])
    assert log(viewer, job_id, "step=1").headers["X-Log-Complete"] == "true"
    assert log(viewer, job_id, "step=2").content == TITLES[1]
    agent.finish(assignment, log_chunks=2)
    assert log(viewer, job_id, "step=2").headers["X-Log-Complete"] == "true"


def test_the_attempts_that_have_a_log_are_those_that_an_agent_has_begun(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    assert log_attempts(job_get(job_id)) == []
    problem(viewer.get(f"/jobs/{job_id}/log?attempt=1"), 404, "log_not_found")
    agent.heartbeat()
    assert log_attempts(job_get(job_id)) == []
    assert log(viewer, job_id, "attempt=1").content == b""
    assignment = {"job_id": job_id, "attempt": 1}
    agent.start(assignment)
    agent.log(assignment, 0, FIRST)
    attempt_expire(agent_id=agent.agent_id, job_id=job_id, attempt=1, heartbeat_at=None, reason="lost")
    agent.heartbeat()
    # The second attempt has been offered to the agent, but has not begun.
    assert log_attempts(job_get(job_id)) == [1]
    assert log(viewer, job_id, "step=1").content == TITLES[0] + b"fine\n"


# --- times ------------------------------------------------------------------------------------------------------------

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3})Z "


def send(agent: AgentClient, assignment: Any, sequence: int, data: bytes, times: str) -> requests.Response:
    request = agent.log_request(assignment, sequence, data)
    return agent.send(agent.signed(request.path, data, headers={**request.headers, "Log-Times": times}))


@archived_or_not
def test_a_line_has_the_time_at_which_the_agent_saw_it(
    viewer: Client, job_id: str, agent: AgentClient, now: str, archived: bool
) -> None:
    assignment = agent.take()
    # The chunk is sent ten minutes late, and its second line was printed 1.25 s after the first.
    assert send(agent, assignment, 0, b"one\ntwo\nthr", "600000 4:1250 4:50").status_code == 200
    assert send(agent, assignment, 1, b"ee\nfour\n", "200").status_code == 200
    agent.finish(assignment, log_chunks=2)
    if archived:
        log_archive(job=job_get(job_id))
    began = clock.parse_timestamp(now) - timedelta(minutes=10)
    late = clock.parse_timestamp(now) - timedelta(milliseconds=200)
    moments = [began, began + timedelta(seconds=1.25), began + timedelta(seconds=1.3), late]
    lines = log_lines(attempt_log(job_get(job_id), 1), first=1, count=9).lines
    for line, moment in zip(lines, moments, strict=True):
        assert abs(line.milliseconds - moment.timestamp() * 1000) <= 1
        assert line.at == line.milliseconds // 1000
    texts = log(viewer, job_id, "timestamps").text.splitlines()
    assert [re.sub(STAMP, "", text) for text in texts] == ["one", "two", "three", "four"]
    for text, moment in zip(texts, moments, strict=True):
        shown = clock.parse_timestamp(text.partition(" ")[0])
        assert abs(shown - moment) <= timedelta(milliseconds=1)


@archived_or_not
def test_timestamps_change_nothing_about_offsets_and_parts(
    viewer: Client, lost_and_failed: str, archived: bool
) -> None:
    if archived:
        log_archive(job=job_get(lost_and_failed))
    whole = FIRST + b"".join(SECOND)
    for query in ("", "attempt=2&", "step=2&", "attempt=1&step=1&", "tail=2&", "offset=3&", "offset=27&limit=30&"):
        plain, stamped = (log(viewer, lost_and_failed, query + more) for more in ("", "timestamps"))
        for header in ("X-Offset", "X-Next-Offset", "X-Log-Complete"):
            assert plain.headers[header] == stamped.headers[header]
        assert re.sub(STAMP, "", stamped.text) == plain.text
    # The part begins in the midst of a line, which has its time in the part before.
    assert re.fullmatch(rf"ch\n{STAMP}.*\n", log(viewer, lost_and_failed, "offset=3&limit=25&timestamps").text)
    part, texts = log(viewer, lost_and_failed, "limit=30&timestamps"), []
    while texts.append(part.text) or "next" in part.links:  # type: ignore[func-returns-value]
        part = viewer.get(part.links["next"]["url"].removeprefix(viewer.server))
    assert re.sub(STAMP, "", "".join(texts)) == whole.decode()
    assert len(re.findall(f"^{STAMP}", "".join(texts), re.MULTILINE)) == whole.count(b"\n") + 1


def test_lines_without_a_known_time_have_a_hyphen(viewer: Client, job_id: str, agent: AgentClient) -> None:
    agent.log(agent.take(), 0, b"one\n\ntwo")
    LogChunk(stream=f"{job_id}#1", sequence=0).update(actions=[LogChunk.at.remove()])
    assert log(viewer, job_id, "timestamps").content == b"- one\n- \n- two"


@pytest.mark.slow
def test_a_log_of_empty_lines_with_times_is_read_in_bounded_parts(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    agent.log_all(agent.take(), b"\n" * 250_000)
    part = log(viewer, job_id, "timestamps")
    assert part.headers["X-Next-Offset"] == "100000"
    assert len(part.content) == 100_000 * 26
    assert "offset=100000" in part.links["next"]["url"]
    assert "timestamps=true" in part.links["next"]["url"]


def test_timestamps_are_not_for_a_download(viewer: Client, job_id: str) -> None:
    body = problem(viewer.get(f"/jobs/{job_id}/log?timestamps&download"), 400, "invalid_input")
    assert body["errors"][0]["field"] == "timestamps"


@pytest.mark.parametrize(
    "times", ["", "x", "-1", "1 2", "1 2:", "1  2:3", "1 2:3 ", "9" * 10, "1 2:3;", "1" + " 1:1" * 101]
)
def test_times_that_cannot_be_are_refused(agent: AgentClient, job_id: str, times: str) -> None:
    answer = send(agent, agent.take(), 0, b"one\n", times)
    # A server of HTTP drops spaces at the end.
    if times.strip() in ("1 2:3",):
        assert answer.status_code == 200
    else:
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "Log-Times"


def test_times_of_bytes_that_the_chunk_does_not_have_count_for_nothing(agent: AgentClient, job_id: str) -> None:
    assert send(agent, agent.take(), 0, b"one\ntwo\n", "0 4:10 4:10 1:1").status_code == 200
    (chunk,) = LogChunk.query(f"{job_id}#1", LogChunk.sequence >= 0)
    assert [offset for offset, _ in chunk.moments] == [0, 4]


def test_a_chunk_that_is_sent_again_later_keeps_its_times(agent: AgentClient, job_id: str) -> None:
    assignment = agent.take()
    for times in ("1000", "500000 1:1"):
        assert send(agent, assignment, 0, b"one\n", times).status_code == 200
    (chunk,) = LogChunk.query(f"{job_id}#1", LogChunk.sequence >= 0)
    assert len(chunk.moments) == 1
    assert abs(chunk.at - clock.now().timestamp()) < 60


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def archived_log(lost_and_failed: str) -> str:
    log_archive(job=job_get(lost_and_failed))
    return lost_and_failed


def test_an_archived_log_is_read_by_ranges(viewer: Client, archived_log: str) -> None:
    whole = FIRST + b"".join(SECOND)
    size = len(whole)
    plain = log(viewer, archived_log)
    assert plain.headers["Accept-Ranges"] == "bytes"
    etag = plain.headers["ETag"]
    assert re.fullmatch('"[!-~]+"', etag)
    for text, first, end in (
        ("bytes=0-4", 0, 5),
        ("bytes=7-", 7, size),
        ("bytes=7-99999", 7, size),
        ("bytes=-5", size - 5, size),
        (f"bytes=-{size + 9}", 0, size),
        ("Bytes=3-3", 3, 4),
    ):
        for query, headers in itertools.product(("", "download", "offset=0&limit=1000000"), ({}, {"If-Range": etag})):
            part = log(viewer, archived_log, query, 206, Range=text, **headers)
            assert part.content == whole[first:end], (text, query)
            assert part.headers["Content-Range"] == f"bytes {first}-{end - 1}/{size}"
            assert part.headers["ETag"] == etag
    of_attempt = log(viewer, archived_log, "attempt=1", 206, Range="bytes=-5")
    assert of_attempt.content == b"lost\n"
    assert of_attempt.headers["ETag"] != etag


def test_a_range_after_the_end_is_not_satisfiable(viewer: Client, archived_log: str) -> None:
    size = len(FIRST + b"".join(SECOND))
    for query, text in itertools.product(("", "download"), (f"bytes={size}-", "bytes=-0")):
        answer = log(viewer, archived_log, query, 416, Range=text)
        problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_a_range_that_does_not_apply_gives_the_whole(viewer: Client, archived_log: str) -> None:
    for headers in (
        {"Range": "bytes=0-1,3-4"},
        {"Range": "bytes=5-2"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-4", "If-Range": '"another"'},
        {"Range": "bytes=0-4", "If-Range": "Thu, 26 Nov 2026 20:42:41 GMT"},
    ):
        answer = viewer.get(f"/jobs/{archived_log}/log", headers=headers)
        assert (answer.status_code, answer.content) == (200, FIRST + b"".join(SECOND)), headers


def test_a_range_does_not_change_a_part_that_the_query_names(viewer: Client, archived_log: str) -> None:
    for query in ("tail=1", "offset=6", "limit=9", "timestamps"):
        assert log(viewer, archived_log, query, Range="bytes=0-1").content == log(viewer, archived_log, query).content


def test_a_log_that_may_change_takes_no_ranges(viewer: Client, lost_and_failed: str) -> None:
    answer = log(viewer, lost_and_failed, Range="bytes=0-1")
    assert answer.content == FIRST + b"".join(SECOND)
    assert not {"Accept-Ranges", "ETag", "Content-Range"} & set(answer.headers)


# --- any cutting ------------------------------------------------------------------------------------------------------

PIECES = (b"\n", b"a", b"bc\n", b"\r\n", b"\xff", b"\xc3\xa4", b"\x00", TITLES[0], TITLES[1], b"\x1b[31m", b"x" * 30)


@pytest.mark.slow
@given(
    attempts=st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), min_size=1, max_size=3),
    cut=st.integers(1, 9),
    limit=st.integers(1, 40),
    stamped=st.booleans(),
)
@hypothesis_settings(deadline=None, max_examples=examples(30))
def test_any_cutting_of_any_bytes_gives_the_same_parts(
    attempts: list[bytes], cut: int, limit: int, stamped: bool
) -> None:
    indexes = []
    for data in attempts:
        index = LogIndex()
        for offset in range(0, len(data), cut):
            index.add(data[offset : offset + cut], [(0, 1_700_000_000_000)])
        indexes.append(index)
    storage: Any = storages["logs"]
    name = f"parts-{abs(hash((*attempts, cut)))}.log"
    storage.save_stream(name, [b"".join(attempts)])
    storage.save_stream(f"{name}.index", [indexes_dump(indexes)])
    job = Job("01kb2m7v3c0000000000000000", log_stored=name, attempt=len(attempts), status="completed")
    expected: list[tuple[dict[str, int], bytes]] = [({}, b"".join(attempts))]
    for number, data in enumerate(attempts, 1):
        expected.append(({"attempt": number}, data))
        # A title only counts at the beginning of a line, and only the first one of a step.
        begins = {
            step: match.start()
            for step, title in enumerate(TITLES, 1)
            if (match := re.search(rb"(?:^|(?<=\n))" + re.escape(title), data))
        }
        for step, begin in begins.items():
            end = min((other for other in begins.values() if other > begin), default=len(data))
            expected.append(({"attempt": number, "step": step}, data[begin:end]))
    for chosen, wanted in expected:
        part, texts, more, offset = log_part(job=job, **chosen), [], True, 0
        while more:
            found, more = part_lines(part, offset=offset, limit=limit)
            offset = found.next_offset
            # A line is cut only where it does not fit.
            assert found.data.endswith(b"\n") or not more or b"\n" not in found.data
            texts.append(part.stamped(found).data if stamped else found.data)
        text = b"".join(texts)
        assert re.sub(STAMP.encode(), b"", text) == wanted
        assert found.complete
