"""``GET /jobs/{job_id}/log/search``: the lines in which something is found."""

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.jobs.selectors import attempt_log, job_get
from apps.jobs.selectors.log_search import log_search, log_search_page
from apps.jobs.services import attempt_expire, log_archive
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.examples import examples
from tests.jobs.test_log_lines import archived
from tests.signing import AgentClient

TITLES = ("── step 1/2: lint\n".encode(), "── step 2/2: test\n".encode())
LOG = b"fetch\n" + TITLES[0] + b"fine\nno error\n" + TITLES[1] + b"one\n\x1b[31mError\x1b[0m: two\nerror again\nend\n"


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


def search(client: Client, job_id: str, query: str) -> dict[str, Any]:
    answer = client.get(f"/jobs/{job_id}/log/search?{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def lines(found: dict[str, Any]) -> list[int]:
    return [hit["line"] for hit in found["hits"]]


@pytest.fixture
def one_chunk(job_id: str, agent: AgentClient) -> str:
    """A job that has ended with a log."""
    assignment = agent.take()
    agent.finish(assignment, log_chunks=agent.log_all(assignment, LOG))
    return job_id


@pytest.fixture
def whole(job_id: str, agent: AgentClient) -> str:
    """The same with this log in many chunks."""
    assignment = agent.take()
    agent.finish(assignment, log_chunks=agent.log_all(assignment, LOG, size=7))
    return job_id


def test_a_hit_has_its_line_its_time_and_the_lines_around_it(viewer: Client, whole: str) -> None:
    for stored in (False, True):
        if stored:
            log_archive(job=job_get(whole))
        found = search(viewer, whole, "q=error:&context=1")
        (hit,) = found.pop("hits")
        assert found == {
            "attempt": 1,
            "total": 1,
            "total_is_lower_bound": False,
            "searched_to": 9,
            "next_line": None,
            "log_complete": True,
        }
        at = clock.parse_timestamp(hit.pop("at"))
        assert abs((clock.now() - at).total_seconds()) < 120
        assert hit == {"line": 7, "text": "Error: two", "before": ["one"], "after": ["error again"]}


def test_case_regex_and_step_decide_what_is_found(viewer: Client, whole: str) -> None:
    for query, expected in (
        ("q=error", [4, 7, 8]),
        ("q=error&case", [4, 8]),
        ("q=error&case=false", [4, 7, 8]),
        ("q=%5Eerror&regex", [7, 8]),
        ("q=%5Eerror&regex=true&case=true", [8]),
        ("q=error&step=1", [4]),
        ("q=error&step=2", [7, 8]),
        ("q=error&step=2&from_line=8", [8]),
        ("q=error&step=1&from_line=5", []),
        ("q=error&from_line=1000", []),
        ("q=.", []),
        ("q=gr%C3%BCn", []),
    ):
        found = search(viewer, whole, query)
        assert lines(found) == expected, query
        assert found["total"] == len(expected)


def test_pages_follow_one_another_until_there_is_no_next_line(viewer: Client, whole: str) -> None:
    first = search(viewer, whole, "q=error&limit=2&context=2")
    assert (lines(first), first["total"], first["next_line"]) == ([4, 7], 3, 8)
    last = search(viewer, whole, f"q=error&limit=2&context=2&from_line={first['next_line']}")
    assert (lines(last), last["total"], last["next_line"]) == ([8], 1, None)
    assert last["hits"][0]["before"] == ["one", "Error: two"]
    assert last["hits"][0]["after"] == ["end"]


def test_the_newest_attempt_that_has_begun_is_searched_or_the_one_that_is_asked_for(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    agent.log(agent.take(), 0, b"first\nneedle\n")
    attempt_expire(agent_id=agent.agent_id, job_id=job_id, attempt=1, heartbeat_at=None, reason="lost")
    agent.heartbeat()
    assert search(viewer, job_id, "q=needle")["attempt"] == 1
    agent.start({"job_id": job_id, "attempt": 2})
    assert (search(viewer, job_id, "q=needle")["attempt"], lines(search(viewer, job_id, "q=needle"))) == (2, [])
    assert lines(search(viewer, job_id, "q=needle&attempt=1")) == [2]
    assert not search(viewer, job_id, "q=needle&attempt=2")["log_complete"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=", "q"),
        ("q=" + "x" * 201, "q"),
        ("q=%00", "q"),
        ("q=%28&regex", "q"),
        ("q=x&limit=0", "limit"),
        ("q=x&limit=201", "limit"),
        ("q=x&context=11", "context"),
        ("q=x&from_line=0", "from_line"),
        ("q=x&case=maybe", "case"),
        ("q=x&q=y", "q"),
        ("q=x&offset=1", "offset"),
    ],
)
def test_a_search_that_cannot_be_is_a_problem_that_names_the_field(
    viewer: Client, one_chunk: str, query: str, field: str
) -> None:
    body = problem(viewer.get(f"/jobs/{one_chunk}/log/search?{query}"), 400, "invalid_input")
    assert body["errors"][0]["field"] == field


def test_a_log_that_does_not_exist_is_not_searched(viewer: Client, job_id: str) -> None:
    problem(viewer.get(f"/jobs/{job_id}/log/search?q=x"), 404, "log_not_found")
    problem(viewer.get("/jobs/01kahtnvg00000000000000000/log/search?q=x"), 404, "job_not_found")


def test_an_expression_that_takes_too_long_is_a_problem_of_q(viewer: Client, job_id: str, agent: AgentClient) -> None:
    agent.log(agent.take(), 0, b"a" * 40 + b"\n")
    with patch("apps.jobs.selectors.log_search._SECONDS", 0.3):
        body = problem(viewer.get(f"/jobs/{job_id}/log/search?q=%28a%2B%29%2Bb&regex"), 400, "invalid_input")
    assert "took too long" in body["errors"][0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("regex", [False, True])
def test_a_search_that_time_cuts_off_says_so_and_goes_on_from_there(regex: bool) -> None:
    # The expression takes for ever in line 30, so it is killed there.
    texts = [b"hit"] * 29 + [b"a" * 40 if regex else b"hit"] + [b"hit"] * 10
    log = attempt_log(archived(b"\n".join(texts)), 1)
    asked: dict[str, Any] = {
        "question": "hit|(a+)+b" if regex else "hit",
        "regex": regex,
        "case": True,
        "limit": 100,
        "context": 0,
    }
    clocks = iter([0.0, *([5.0] * 3), *([9.0] * 99)])
    with patch("apps.jobs.selectors.log_search._BLOCK_BYTES", 20):
        if regex:
            with patch("apps.jobs.selectors.log_search._SECONDS", 1.0):
                page = log_search_page(log, first=1, last=40, **asked)
        else:
            with patch.object(time, "monotonic", lambda: next(clocks)):
                page = log_search_page(log, first=1, last=40, **asked)
    assert not page.complete
    assert page.following == page.searched + 1
    assert [hit.number for hit in page.hits] == list(range(1, page.searched + 1))
    assert 0 < page.searched < 30
    if not regex:
        rest = log_search_page(log, first=page.following, last=40, **asked)
        assert [hit.number for hit in rest.hits] == list(range(page.following, 41))
        assert rest.complete


def test_a_page_of_long_lines_is_bounded() -> None:
    log = attempt_log(archived(b"".join(b"x" * 20_000 + b" %d\n" % number for number in range(200)), cut=50_000), 1)
    asked: dict[str, Any] = {"question": "x", "regex": False, "case": True, "limit": 200, "context": 5}
    page = log_search_page(log, first=1, last=200, **asked)
    texts = [text for hit in page.hits for text in (hit.text, *hit.before, *hit.after)]
    assert 1 <= len(page.hits) < 20
    assert sum(map(len, texts)) < 1_400_000
    assert (page.total, page.following) == (200, len(page.hits) + 1)


@given(
    texts=st.lists(st.sampled_from([b"needle", b"hay", b"", b"need", b"x needle y"]), min_size=1, max_size=30),
    block=st.integers(1, 30),
    limit=st.integers(1, 4),
    context=st.integers(0, 3),
    cut=st.integers(1, 9),
)
@settings(deadline=None, max_examples=examples(40))
def test_any_cutting_gives_the_same_hits_context_and_pages(
    texts: list[bytes], block: int, limit: int, context: int, cut: int
) -> None:
    log = attempt_log(archived(b"\n".join(texts), cut=cut), 1)
    seen = [text.decode() for text in texts]
    if not seen[-1]:
        seen.pop()
    hits = [number for number, text in enumerate(seen, 1) if "needle" in text]
    first, found = 1, []
    with patch("apps.jobs.selectors.log_search._BLOCK_BYTES", block), patch("apps.jobs.log_index.BLOCK_BYTES", 16):
        assert log_search(log, question="needle", regex=False, case=True).lines == hits
        while True:
            page = log_search_page(
                log,
                question="needle",
                regex=False,
                case=True,
                first=first,
                last=log.index.total,
                limit=limit,
                context=context,
            )
            assert page.total == sum(number >= first for number in hits)
            found += page.hits
            if page.following is None:
                break
            first = page.following
    assert [hit.number for hit in found] == hits
    for hit in found:
        assert hit.text == seen[hit.number - 1]
        assert hit.before == seen[max(0, hit.number - 1 - context) : hit.number - 1]
        assert hit.after == seen[hit.number : hit.number + context]
