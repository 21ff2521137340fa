"""Logs on a terminal and in a pipe: whole, their end, from a time on, and followed."""

from collections.abc import Callable

import pytest
from hci import follow
from hci.client import Client as HciClient

from tests.cli.conftest import Scripted, answer, hci
from tests.clients import Client
from tests.signing import AgentClient


@pytest.fixture
def job(user: Client, make_job: Callable[..., str], agent: AgentClient) -> str:
    """A job that has printed and ended well."""
    job_id = make_job()
    assignment = agent.take()
    agent.log(assignment, 0, b"\x1b[32mone\x1b[0m\n\x1b]0;title\x07two\n")
    agent.log(assignment, 1, b"three\n")
    agent.finish(assignment, log_chunks=2)
    return job_id


def test_colours_are_kept_on_a_terminal_and_nothing_else_of_the_jobs_sequences(job: str) -> None:
    assert hci("logs", job).out == "one\ntwo\nthree\n"
    assert hci("logs", job, terminal=True).out == "\x1b[32mone\x1b[0m\ntwo\nthree\n"
    assert hci("logs", job, "--color", "always").out == "\x1b[32mone\x1b[0m\ntwo\nthree\n"
    assert hci("logs", job, "--color", "never", terminal=True).out == "one\ntwo\nthree\n"


def test_no_color_is_respected(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert hci("logs", job, terminal=True).out == "one\ntwo\nthree\n"


def test_the_end_a_part_by_time_and_an_attempt_are_chosen(job: str) -> None:
    assert hci("logs", job, "--tail", "1").out == "three\n"
    assert hci("logs", job, "--since", "1h").out == "one\ntwo\nthree\n"
    assert hci("logs", job, "--since", "2999-01-01T00:00:00Z").out in ("", "one\ntwo\nthree\n")
    assert hci("logs", job, "--attempt", "1", "--follow").out == "one\ntwo\nthree\n"
    assert hci("logs", job, "--attempt", "9").code == 3
    assert hci("logs", job, "--since", "yesterday").code == 2
    assert len(hci("logs", job, "--timestamps").out.splitlines()) == 3


def test_a_log_as_json_is_one_document(job: str) -> None:
    found = hci("logs", job, "--json").json
    assert (found["log"], found["complete"]) == ("one\ntwo\nthree\n", True)
    assert hci("logs", job, "--json", "-f").code == 2


def test_a_log_of_several_parts_is_read_to_its_end(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hci("logs", job).out
    call = HciClient.call

    def small(self: HciClient, endpoint: object, *, query: dict[str, object], **rest: str) -> object:
        return call(self, endpoint, query={**query, "limit": 4}, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(HciClient, "call", small)
    assert hci("logs", job).out == whole


def log_part(text: bytes, *, following: int, complete: bool = False) -> bytes:
    return answer(text, X_Next_Offset=str(following), X_Log_Complete=str(complete).lower())


def test_a_followed_log_goes_on_at_the_offset_through_an_outage(scripted: Scripted) -> None:
    scripted.answers = [
        log_part(b"one\n", following=4),
        answer({"detail": "Later."}, status="503 Service Unavailable", Retry_After="1"),
        b"",
        answer(b"two\n", X_Next_Offset="8", X_Log_Complete="true", Content_Length="9999"),
        log_part(b"two\n", following=8, complete=True),
        answer({"job_id": "j", "status": "failed", "exit_code": 42, "error_message": None}),
    ]
    ended = hci("logs", "-f", "j")
    assert (ended.code, ended.out) == (42, "one\ntwo\n")
    assert sum(b"offset=4" in request for request in scripted.asked) == 4


def test_while_a_job_waits_the_follower_says_for_what_and_once(scripted: Scripted) -> None:
    waiting = {"job_id": "j", "status": "queued", "waiting": {"message": "All agents are busy."}}
    scripted.answers = [
        log_part(b"", following=0),
        answer(waiting),
        log_part(b"", following=0),
        log_part(b"x\n", following=2, complete=True),
        answer({"job_id": "j", "status": "completed"}),
    ]
    ended = hci("logs", "-f", "j")
    assert (ended.code, ended.out, ended.err) == (0, "x\n", "All agents are busy.\n")


def test_a_job_that_has_ended_without_the_end_of_its_log_ends_the_following(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_LOST_AFTER", 0.0)
    scripted.answers = [
        log_part(b"x\n", following=2),
        log_part(b"", following=2),
        answer({"job_id": "j", "status": "timed_out", "exit_code": None}),
    ]
    ended = hci("logs", "-f", "j")
    assert (ended.code, ended.out) == (1, "x\n")
    assert "timed out" in ended.err


def test_times_are_taken_off_and_lines_without_a_time_are_as_old_as_the_line_before(scripted: Scripted) -> None:
    lines = b"2026-01-01T00:00:00.000Z old\n- also old\n2026-01-02T00:00:00.000Z new\n- also new\n"
    scripted.answers = [log_part(lines, following=30, complete=True)]
    assert hci("logs", "j", "--since", "2026-01-01T12:00:00Z").out == "new\nalso new\n"


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_cancel_it(
    user: Client, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()

    def interrupted(_self: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.Pace, "next", interrupted)
    ended = hci("logs", "-f", job)
    assert (ended.code, ended.err.splitlines()[-1]) == (130, f"The job goes on. To cancel it: hci cancel {job}")
    ended = hci("run", "self", "--follow")
    assert (ended.code, "The run goes on. To cancel it: hci cancel " in ended.err) == (130, True)
    assert user.get(f"/jobs/{job}").json()["status"] == "queued"
