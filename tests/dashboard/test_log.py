"""The log on a job's page."""

import html
import re
from typing import Any
from unittest.mock import patch

import pytest

from apps.dashboard.views.log import BLOCK_LINES
from apps.jobs.services import attempt_expire
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotFound
from tests.clients import Client, problem
from tests.dashboard.scene import Scene


def lines_of(page: str) -> dict[int, str]:
    """The lines of a log in a page or in a block: their texts by their numbers."""
    found = re.findall(r'<div class="line[^"]*" id="L(\d+)"[^>]*>(.*?)</div>', page, re.DOTALL)
    return {int(number): html.unescape(re.sub(r"<[^>]+>", "", text)) for number, text in found}


def state(client: Client, job_id: str) -> dict[str, Any]:
    answer = client.get(f"/dashboard/jobs/{job_id}/log/state")
    assert answer.status_code == 200
    return dict(answer.json())


def attempts_of(page: str) -> list[tuple[str, str]]:
    """The attempts that one chooses between: the tag of each link, and its text."""
    found = re.findall(r'(<a id="attempt-\d+"[^>]*>)(.*?)</a>', page, re.DOTALL)
    return [(tag, " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())) for tag, text in found]


def chosen_attempt(page: str) -> str:
    (text,) = (text for tag, text in attempts_of(page) if 'aria-current="page"' in tag)
    return re.sub(r"after [\d.]+ s", "after 0.0 s", text)


def refused(client: Client, address: str, status: int, code: str) -> None:
    """A request of the page's script, which accepts anything."""
    problem(client.get(address, headers={"Accept": "*/*"}), status, code)


def search(client: Client, job_id: str, query: str) -> dict[str, Any]:
    answer = client.get(f"/dashboard/jobs/{job_id}/log/search?{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_page_numbers_the_lines_and_links_to_them(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"one\ntw", b"o\nthree")
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    assert lines_of(page) == {1: "one", 2: "two", 3: "three"}
    assert '<a href="#L2" data-n="2" aria-label="Line 2">' in page
    assert "Following the log" in page


def test_a_page_follows_the_log_by_its_state_and_its_blocks(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"one\n")
    assert state(operator, running_job) == {"total": 1, "complete": False, "steps": [], "groups": []}
    title = "── step 1/2: lint\n".encode()
    scene.log(agent, running_job, title[:9], title[9:] + b"x\n" * 200, first=1)
    step = {"number": 1, "line": 2, "state": "running", "exit_code": None, "took": None}
    assert state(operator, running_job) == {"total": 202, "complete": False, "steps": [step], "groups": []}
    scene.finish(agent, running_job, chunks=3)
    assert state(operator, running_job)["complete"]
    block = lines_of(operator.get(f"/dashboard/jobs/{running_job}/log/lines?block=2").text)
    assert list(block) == [201, 202]
    first = lines_of(operator.get(f"/dashboard/jobs/{running_job}/log/lines?block=0").text)
    assert (len(first), first[1], first[2]) == (BLOCK_LINES, "one", "── step 1/2: lint")
    assert lines_of(operator.get(f"/dashboard/jobs/{running_job}/log/lines?block=3").text) == {}


def test_a_block_of_long_lines_is_whole(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    chunks = [(b"%03d " % number + b"x" * 60_000 + b"\n") for number in range(BLOCK_LINES)]
    scene.log(agent, running_job, *chunks)
    block = lines_of(operator.get(f"/dashboard/jobs/{running_job}/log/lines?block=0").text)
    assert list(block) == list(range(1, BLOCK_LINES + 1))
    assert all(
        text.startswith(f"{number - 1:03} x") and text.endswith("the line goes on") for number, text in block.items()
    )
    assert len(block[1]) < 17_000


def test_markup_in_a_log_is_shown_as_text(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    hostile = b"<script>alert(1)</script></div><img src=x onerror=alert(1)>"
    scene.log(agent, running_job, hostile + b"\n::error file=<b>::" + hostile + b"\n")
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    block = operator.get(f"/dashboard/jobs/{running_job}/log/lines?block=0").text
    for text in (page, block):
        assert lines_of(text)[1] == hostile.decode()
        assert lines_of(text)[2] == f"Error: {hostile.decode()} (<b>)"
        assert "<script>alert" not in text
        assert "<img" not in text


def test_bytes_that_are_not_utf8_do_not_break_the_page(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"a\xff\xfe\x00b\n")
    assert lines_of(operator.get(f"/dashboard/jobs/{running_job}").text) == {1: "a\ufffd\ufffdb"}


def test_a_character_that_two_chunks_share_is_shown_whole(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    first, second = "grün 🙂\n".encode()[:7], "grün 🙂\n".encode()[7:]
    scene.log(agent, running_job, first)
    assert lines_of(operator.get(f"/dashboard/jobs/{running_job}").text) == {1: "grün "}
    scene.log(agent, running_job, second, first=1)
    assert lines_of(operator.get(f"/dashboard/jobs/{running_job}").text) == {1: "grün 🙂"}


def test_a_colour_goes_on_in_the_next_block(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    scene.log(agent, running_job, b"\x1b[31m" + b"red\n" * BLOCK_LINES + b"still red\n")
    block = operator.get(f"/dashboard/jobs/{running_job}/log/lines?block=1").text
    assert '<span class="f1">still red</span>' in block


def test_a_page_shows_the_attempt_that_is_asked_for(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"first attempt\n")
    attempt_expire(agent_id=agent.id, job_id=running_job, attempt=1, heartbeat_at=None, reason="the agent was lost")
    assert scene.start(agent) == running_job
    scene.log(agent, running_job, b"second attempt\n", attempt=2)
    for archived in (False, True):
        page = operator.get(f"/dashboard/jobs/{running_job}").text
        assert lines_of(page) == {1: "second attempt"}
        assert "the agent was lost" in page
        page = operator.get(f"/dashboard/jobs/{running_job}?attempt=1").text
        assert lines_of(page) == {1: "first attempt"}
        assert chosen_attempt(page) == "Lost Attempt 1 was lost with agent build-01 after 0.0 s the agent was lost"
        if not archived:
            scene.finish(agent, running_job, chunks=1, attempt=2)
            scene.store_log(running_job)
    assert operator.get(f"/dashboard/jobs/{running_job}?attempt=3").status_code == 404


def test_a_page_shows_the_end_of_a_long_log_and_leads_to_all_of_it_without_script(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    lines = [b"%07d\n" % number for number in range(BLOCK_LINES * 5)]
    scene.log(agent, running_job, b"".join(lines))
    scene.finish(agent, running_job, chunks=1)
    scene.store_log(running_job)
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    assert list(lines_of(page)) == list(range(3 * BLOCK_LINES + 1, 5 * BLOCK_LINES + 1))
    assert "500 lines." in page
    read = dict(lines_of(page))
    while earlier := re.search(r'rel="prev" href="([^"]+)"', page):
        page = operator.get(f"/dashboard/jobs/{running_job}{html.unescape(earlier[1])}").text
        read |= lines_of(page)
    assert [read[number] for number in sorted(read)] == [line.decode().strip() for line in lines]


def test_a_failed_job_opens_at_the_first_error_of_the_failed_step(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    text = (
        "── step 1/2: lint\nerror: ignored\n── step 2/2: test\n"
        + "fine\n" * 300
        + "main.c:3: \x1b[31merror:\x1b[0m no <b>\nerror: more\n"
    )
    scene.log(agent, running_job, text.encode())
    scene.finish(agent, running_job, chunks=1, exit_code=3)
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    assert 'data-line="304"' in page
    # The head of the page says it, too, and leads there.
    assert 'href="#L304"><span class="muted">304</span> main.c:3: error: no &lt;b&gt;</a>' in page
    assert "first-error" not in operator.get(f"/dashboard/jobs/{running_job}?line=1").text
    assert search(operator, running_job, "")["lines"] == [2, 304, 305]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("q=%28&regex=1", "The search must be a regular expression: missing ), unterminated subpattern at position 0."),
        ("q=" + "x" * 2000, "The search must have at most"),
    ],
)
def test_a_search_that_is_none_is_explained_without_the_name_of_a_parameter(
    operator: Client, running_job: str, query: str, message: str
) -> None:
    # As the page's script asks.
    answer = operator.get(f"/dashboard/jobs/{running_job}/log/search?{query}", headers={"Accept": "*/*"})
    assert problem(answer, 400, "invalid_input")["detail"].startswith(message)
    assert [one["field"] for one in answer.json()["errors"]] == ["q"]


def test_a_search_counts_what_it_finds_in_the_whole_log(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"Alpha\nbeta\n" * 3, b"al\x1b[31mpha\x1b[0m 1\n")
    found = search(operator, running_job, "q=alpha")
    assert found == {"lines": [1, 3, 5, 7], "total": 4, "searched": 7, "complete": True}
    assert search(operator, running_job, "q=alpha&case=1")["lines"] == [7]
    assert search(operator, running_job, "q=a$&regex=1")["lines"] == [1, 2, 3, 4, 5, 6]
    assert search(operator, running_job, "q=gamma")["total"] == 0


def test_a_search_that_cannot_be_is_refused(operator: Client, running_job: str) -> None:
    for query in ("q=[&regex=1", f"q={'x' * 201}"):
        refused(operator, f"/dashboard/jobs/{running_job}/log/search?{query}", 400, "invalid_input")


def test_numbers_that_are_none_are_refused(operator: Client, running_job: str) -> None:
    for query in ("block=x", "block=-1", "attempt=1e3", "block=9999999999"):
        refused(operator, f"/dashboard/jobs/{running_job}/log/lines?{query}", 400, "invalid_input")


def test_a_page_links_to_the_whole_log_as_a_file(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"as \x1b[31mprinted\xff\n")
    link = re.search(r'href="([^"]+)">Download', operator.get(f"/dashboard/jobs/{running_job}").text)
    assert link
    answer = operator.get(link[1])
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.content == b"as \x1b[31mprinted\xff\n"


def test_a_job_without_an_attempt_has_no_log_yet(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    job_id = scene.job()
    assert "The log begins when an agent runs the job" in operator.get(f"/dashboard/jobs/{job_id}").text
    refused(operator, f"/dashboard/jobs/{job_id}/log/state", 404, "log_not_found")


def test_a_job_whose_stored_log_was_deleted_keeps_its_page(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"a line\n")
    scene.finish(agent, running_job, chunks=1)
    scene.store_log(running_job)
    with patch("apps.dashboard.views.log.attempt_log", side_effect=NotFound("The job's log is no longer in storage.")):
        answer = operator.get(f"/dashboard/jobs/{running_job}")
    assert answer.status_code == 200
    assert "log is no longer in storage" in html.unescape(answer.text)
