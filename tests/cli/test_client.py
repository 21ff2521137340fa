"""Answers of servers that fail, are hostile, or are something else."""

import gzip
import json
import os
from typing import Any
from unittest import mock

import pytest
from hci.client import Answer, Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Clock, Scripted, answer, hci
from tests.examples import examples

PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable",
    "status": 422,
    "code": "definition_invalid",
    "detail": "The definition is\x1b[2J invalid.",
    "errors": [{"field": "jobs.a", "line": 3, "column": 5, "message": "must be a mapping"}],
}

BAD = {
    "garbage": answer(b"\x00\xff{"),
    "a page": answer(b"<html>Welcome</html>", Content_Type="text/html"),
    "a list": answer([1, 2]),
    "deep JSON": answer(b"[" * 100_000),
    "no list in it": answer({"runs": 3}),
    "entries that are no objects": answer({"runs": [1], "next_cursor": None}),
    "half of a body": answer({"runs": []}, Content_Length="4000"),
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "an error without explanation": answer(b"oops", status="500 Internal Server Error"),
    "a redirect to itself": answer(status="308 Permanent Redirect", Location="/runs"),
    "a redirect to a page": answer(status="302 Found", Location="https://elsewhere.example/signin"),
    "a redirect to nowhere": answer(status="301 Moved Permanently"),
    "a page that is its own next one": answer({"runs": [], "next_cursor": "again"}),
    "a cursor that is no text": answer({"runs": [], "next_cursor": 7}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_server_that_answers_nonsense_is_unreachable_and_gives_no_traceback(scripted: Scripted, bad: bytes) -> None:
    scripted.answers = [bad]
    ended = hci("runs", "--json")
    assert (ended.code, ended.out) == (5, "")
    assert ended.err.startswith("hci: ")
    assert "Traceback" not in ended.err


LISTS = ("runs", "jobs", "agents", "pipelines", "secrets", "versions", "rotations", "events", "artifacts", "steps")
SCALARS = ("status", "state", "size", "created_at", "started_at", "version", "labels", "job_id", "run_id", "paused_at")
OBJECTS = ("waiting", "scope", "actor", "detail", "attempts", "branches", "missing_labels", "permissions")
TEXTS = st.sampled_from(["", "x", "failed", "\x1b[2J\x9b", "2026-01-01T00:00:00Z"])
MEMBERS = st.sampled_from([*SCALARS, *OBJECTS])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=6,
)
ENTRY = st.dictionaries(MEMBERS, VALUES, min_size=3)
WITH_LISTS = st.fixed_dictionaries({name: st.lists(ENTRY, max_size=1) for name in LISTS})
DOCUMENT = st.builds(lambda lists, members: {**lists, **members}, WITH_LISTS, ENTRY)
COMMANDS = [
    *(["runs"], ["jobs"], ["jobs", "--run", "r"], ["why", "j"], ["agents"], ["whoami"], ["cancel", "j"]),
    *(["agents", "demand"], ["agents", "regions"]),
    *(["pipelines", "list"], ["pipelines", "get", "p"], ["secrets", "list"], ["secrets", "show", "S"]),
    *(["rotations", "list", "S"], ["rotations", "show", "S:1"], ["audit", "search"], ["artifacts", "list", "j"]),
]


@settings(max_examples=examples(10), deadline=None)
@given(st.sampled_from(COMMANDS), DOCUMENT)
def test_any_json_leads_to_an_exit_code_and_harmless_text(command: list[str], document: dict[str, Any]) -> None:
    found = Answer(200, {}, json.dumps(document).encode())
    variables = {"HCI_SERVER": "http://127.0.0.1:1", "HCI_TOKEN": "x"}
    with mock.patch.object(Client, "_send", return_value=found), mock.patch.dict(os.environ, variables):
        ended = hci(*command)
    assert ended.code in (0, 5), ended.err
    assert "\x1b" not in ended.out + ended.err


def test_an_answer_without_end_is_not_kept_in_memory(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hci.client._ANSWER_BYTES", 1_000_000)
    scripted.answers = [answer(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")]
    ended = hci("runs")
    assert (ended.code, ended.err) == (5, "hci: The answer is too long. Is this the address of the control plane?\n")


def test_a_problem_is_explained_in_sentences_with_its_fields(scripted: Scripted) -> None:
    scripted.answers = [answer(PROBLEM, status="422 Unprocessable Content")]
    ended = hci("runs")
    assert ended.code == 2
    assert ended.err == "hci: The definition is invalid.\n  line 3, column 5: jobs.a must be a mapping\n"


def test_a_mistake_in_a_field_is_said_once(scripted: Scripted) -> None:
    first = {"field": "value", "message": "must have at least 8 characters"}
    other = {"field": "git_ref", "line": 2, "message": "must be a ref"}
    for errors, said in (
        ([first], "hci: value must have at least 8 characters\n"),
        ([first, other], "hci: value must have at least 8 characters\n  line 2: git_ref must be a ref\n"),
    ):
        body = {**PROBLEM, "detail": "value: must have at least 8 characters", "errors": errors}
        scripted.answers = [answer(body, status="400 Bad Request")]
        assert hci("runs").err == said


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 4), (403, 4), (404, 3), (409, 4), (410, 3), (422, 2), (429, 5), (500, 5), (503, 5)],
)
def test_each_kind_of_refusal_has_its_exit_code(scripted: Scripted, status: int, code: int) -> None:
    body = {"detail": "No.", "code": "x", "request_id": "r-1"}
    scripted.answers = [answer(body, status=f"{status} X", Retry_After="3600")]
    ended = hci("whoami") if status != 403 else hci("runs")
    assert ended.code == code
    assert ("Request: r-1" in ended.err) == (status >= 500)
    assert ("hci login" in ended.err) == (status == 401)


def test_a_get_is_repeated_while_the_server_is_unavailable_and_a_bounded_time(scripted: Scripted) -> None:
    busy = answer({"detail": "Busy."}, status="503 Service Unavailable", Retry_After="1")
    scripted.answers = [busy, b"", answer({"runs": [], "next_cursor": None})]
    assert hci("runs", "--json").code == 0
    assert len(scripted.asked) == 3


def test_a_longer_wait_than_the_patience_is_not_waited_for(scripted: Scripted) -> None:
    scripted.answers = [answer({"detail": "Busy."}, status="503 Service Unavailable", Retry_After="600")]
    ended = hci("runs")
    assert (ended.code, ended.err) == (5, "hci: Busy.\n")
    assert len(scripted.asked) == 1


def keys(asked: list[bytes]) -> list[bytes]:
    return [
        line for request in asked for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key:")
    ]


def test_a_run_whose_answer_was_lost_is_asked_for_again_with_the_same_key(scripted: Scripted) -> None:
    scripted.answers = [b"", answer({"run_id": "r", "job_id": "j", "status": "queued"}, status="201 Created")]
    assert hci("run", "web", "-q").out == "r\n"
    first, second = keys(scripted.asked)
    assert first == second
    assert hci("run", "web", "-q").code == 0
    assert keys(scripted.asked)[2] != first


def test_what_has_no_key_is_asked_for_once(scripted: Scripted) -> None:
    job = answer({"job_id": "j", "status": "running"})
    scripted.answers = [job, b""]
    assert hci("cancel", "j").code == 5
    assert [request.split()[0] for request in scripted.asked] == [b"GET", b"POST"]


def test_an_address_where_nothing_listens_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCI_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("HCI_TOKEN", "hcp_x")
    monkeypatch.setattr("hci.client.time", Clock())
    ended = hci("runs")
    assert (ended.code, ended.err) == (
        5,
        "hci: http://127.0.0.1:1 cannot be reached: [Errno 111] Connection refused.\n",
    )


def test_a_name_stays_in_its_place_of_the_path(scripted: Scripted) -> None:
    scripted.answers = [answer({"detail": "No.", "code": "x"}, status="404 Not Found")]
    assert hci("pipelines", "get", "a/../../x?y").code == 3
    assert scripted.asked[0].startswith(b"GET /pipelines/a%2F..%2F..%2Fx%3Fy HTTP/1.1")
    assert hci("pipelines", "get", "..").code == 2
    assert len(scripted.asked) == 1
