"""``GET /jobs/{job_id}/log``: whole lines, the last lines, and all of it as a file."""

import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import requests
from django.core.files.storage import storages
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.jobs.models import Job
from apps.jobs.selectors import job_get, log_part, part_tail
from apps.jobs.serializers.jobs import LOG_SLICE_BYTES
from apps.jobs.services import log_archive
from tests.clients import Client, problem
from tests.conftest import CloudServices
from tests.examples import examples
from tests.signing import AgentClient


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


def printed(agent: AgentClient, *chunks: bytes, ends: bool = True) -> None:
    """The next job has printed these chunks; `ends` says whether it has ended."""
    assignment = agent.take()
    for sequence, chunk in enumerate(chunks):
        agent.log(assignment, sequence, chunk)
    if ends:
        agent.finish(assignment, log_chunks=len(chunks))


def log(client: Client, job_id: str, query: str) -> requests.Response:
    answer = client.get(f"/jobs/{job_id}/log?{query}", allow_redirects=False)
    assert answer.status_code == 200, answer.text
    return answer


def test_paging_never_cuts_a_line_and_link_leads_to_the_next_part(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    printed(agent, b"first\nsec", b"ond\nthird\n", ends=False)
    part = log(viewer, job_id, "limit=8")
    assert part.content == b"first\n"
    assert part.headers["X-Next-Offset"] == "6"
    parts = [part.content]
    while "next" in part.links:
        part = viewer.get(part.links["next"]["url"].removeprefix(viewer.server))
        parts.append(part.content)
    assert parts == [b"first\n", b"second\n", b"third\n"]


def test_a_line_longer_than_the_limit_is_cut_between_characters(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    printed(agent, "äöü€😀".encode())
    texts, part = [], log(viewer, job_id, "limit=5")
    texts.append(part.content.decode())
    while "next" in part.links:
        part = viewer.get(part.links["next"]["url"].removeprefix(viewer.server))
        texts.append(part.content.decode())
    assert texts == ["äö", "ü€", "😀"]


def test_a_character_longer_than_the_limit_is_cut_rather_than_never_read(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    printed(agent, "😀".encode())
    assert log(viewer, job_id, "limit=1").content == "😀".encode()[:1]


def test_a_part_that_ends_where_the_log_does_has_no_next_one(viewer: Client, job_id: str, agent: AgentClient) -> None:
    printed(agent, b"one\ntwo\n")
    part = log(viewer, job_id, "limit=8")
    assert part.content == b"one\ntwo\n"
    assert "next" not in part.links
    assert part.headers["X-Log-Complete"] == "true"


@pytest.mark.parametrize("archived", [False, True])
def test_the_tail_is_the_last_lines(viewer: Client, job_id: str, agent: AgentClient, archived: bool) -> None:
    printed(agent, b"one\ntwo\n", b"three\nfour\n")
    if archived:
        log_archive(job=job_get(job_id))
    for lines, expected in ((1, b"four\n"), (3, b"two\nthree\nfour\n"), (4, b"one\ntwo\nthree\nfour\n")):
        part = log(viewer, job_id, f"tail={lines}")
        assert part.content == expected
        assert int(part.headers["X-Offset"]) == 19 - len(expected)
        assert part.headers["X-Next-Offset"] == "19"
        assert part.headers["X-Log-Complete"] == "true"
    assert log(viewer, job_id, "tail=9").content == b"one\ntwo\nthree\nfour\n"


def test_the_tail_of_a_running_job_is_followed_by_its_offset(viewer: Client, job_id: str, agent: AgentClient) -> None:
    printed(agent, b"one\ntwo\nunfin", ends=False)
    part = log(viewer, job_id, "tail=1")
    assert part.content == b"unfin"
    assert (part.headers["X-Next-Offset"], part.headers["X-Log-Complete"]) == ("13", "false")


def test_the_tail_of_a_log_without_output_is_empty(viewer: Client, job_id: str) -> None:
    assert log(viewer, job_id, "tail=5").content == b""


def test_the_tail_has_at_most_the_bytes_of_the_limit(viewer: Client, job_id: str, agent: AgentClient) -> None:
    printed(agent, b"x" * 50 + b"\n" + b"y" * 50 + b"\n")
    assert log(viewer, job_id, "tail=1&limit=60").content == b"y" * 50 + b"\n"
    assert log(viewer, job_id, "tail=2&limit=20").content == b"y" * 19 + b"\n"


@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"\r\n", b"\xc3\xa4", b"long line"])).map(b"".join),
    lines=st.integers(1, 8),
)
@hypothesis_settings(deadline=None, max_examples=examples(40))
def test_the_tail_of_any_log_is_what_its_lines_say(data: bytes, lines: int) -> None:
    storage: Any = storages["logs"]
    storage.save_stream("tail.log", [data])
    job = Job("01kb2m7v3c0000000000000000", log_stored="tail.log")
    with patch("apps.jobs.selectors.log_parts._BLOCK_BYTES", 3):
        part = part_tail(log_part(job=job), lines=lines, limit=1000)
    assert part.data == b"".join(re.findall(rb"[^\n]*\n|[^\n]+", data)[-lines:])


@pytest.mark.parametrize("archived", [False, True])
def test_download_gives_the_whole_log_as_a_file(
    viewer: Client, job_id: str, agent: AgentClient, archived: bool
) -> None:
    chunks = [f"{number} ".encode() * 12_000 for number in range(20)]
    printed(agent, *chunks)
    if archived:
        log_archive(job=job_get(job_id))
    for query in ("download", "download=true"):
        answer = log(viewer, job_id, query)
        assert len(answer.content) > LOG_SLICE_BYTES / 2
        assert answer.content == b"".join(chunks)
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="job-{job_id}.log"'
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_download_of_a_log_that_is_gone_from_storage_is_a_problem(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    printed(agent, b"some")
    log_archive(job=job_get(job_id))
    storages["logs"].delete(str(job_get(job_id).log_stored))
    problem(viewer.get(f"/jobs/{job_id}/log?download"), 404, "log_not_found")


def test_behind_a_gateway_a_large_log_is_downloaded_only_from_its_archive(
    viewer: Client, job_id: str, agent: AgentClient
) -> None:
    printed(agent, b"x" * 90_000, ends=False)
    with patch("apps.jobs.api.logs.behind_gateway", lambda _: True):
        assert len(log(viewer, job_id, "download").content) == 90_000
        with patch("apps.jobs.api.logs._GATEWAY_BYTES", 80_000):
            problem(viewer.get(f"/jobs/{job_id}/log?download"), 409, "log_not_archived")


def test_an_archive_in_a_bucket_is_downloaded_from_there_without_credentials(
    viewer: Client, job_id: str, agent: AgentClient, cloud_services: CloudServices
) -> None:
    printed(agent, "grün\n".encode())
    log_archive(job=job_get(job_id))
    answer = viewer.get(f"/jobs/{job_id}/log?download")
    assert answer.status_code == 302
    file = requests.get(answer.headers["Location"], timeout=10)
    assert file.content == "grün\n".encode()
    assert file.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert file.headers["Content-Disposition"] == f'attachment; filename="job-{job_id}.log"'


@pytest.mark.parametrize("query", ["limit=0", "limit=1000001", "tail=0", "tail=x", "download=maybe"])
def test_a_part_that_cannot_be_is_refused(viewer: Client, job_id: str, query: str) -> None:
    problem(viewer.get(f"/jobs/{job_id}/log?{query}"), 400, "invalid_input")


def test_download_comes_before_tail_and_tail_before_offset(viewer: Client, job_id: str, agent: AgentClient) -> None:
    printed(agent, b"one\ntwo\n")
    assert log(viewer, job_id, "download&tail=1&offset=5").content == b"one\ntwo\n"
    assert log(viewer, job_id, "tail=1&offset=7").content == b"two\n"


def test_a_page_of_another_origin_may_read_where_the_next_part_begins(
    viewer: Client, job_id: str, settings: Any
) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://ci.example.com"]
    answer = viewer.get(f"/jobs/{job_id}/log", headers={"Origin": "https://ci.example.com"})
    exposed = answer.headers["Access-Control-Expose-Headers"]
    read = {"X-Next-Offset", "X-Log-Complete", "X-Offset", "Link", "Location", "ETag", "Content-Range", "Accept-Ranges"}
    assert read <= set(exposed.split(", "))
    asked = {"Origin": "https://ci.example.com", "Access-Control-Request-Method": "GET"}
    preflight = {**asked, "Access-Control-Request-Headers": "range,if-range"}
    allowed = viewer.request("OPTIONS", f"/jobs/{job_id}/log", headers=preflight)
    assert {"range", "if-range"} <= set(allowed.headers["Access-Control-Allow-Headers"].split(", "))
