"""A step gets an identity token of its job: `agent.pyz token --audience NAME`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.added_masks import AddedMasks
from agent.attempt import ABANDON, Attempt
from agent.client import GivenUp, Refused
from agent.job_tokens import JobTokens
from agent.masking import Masks
from agent.protocol import Assignment
from tests.agent.conftest import ROOT, AgentProcess, History
from tests.agent.fake_server import FakeControlPlane

TOKEN = f'"{sys.executable}" "$HYBRID_CI_AGENT" token'
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSB0b2tlbg"
ASK = f"{TOKEN} --audience sts.amazonaws.com"


@pytest.fixture
def plane(shared_agent: AgentProcess, shared_plane: FakeControlPlane) -> Iterator[FakeControlPlane]:
    before, shared_plane.token_answer = shared_plane.token_answer, (200, {"token": f"head.body.{SIGNATURE}"})
    yield shared_plane
    shared_plane.token_answer = before


def run(plane: FakeControlPlane, history: History, script: str) -> Any:
    """A job that is one of a run."""
    job = plane.add_job(history.url, run=script, name="first", run_id="run1", group=None)
    plane.finished(job, 30)
    return job


def test_a_step_gets_a_token_and_standard_output_has_nothing_else(
    plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    out, said = tmp_path / "out", tmp_path / "said"
    listed = "ls -A $(dirname $HYBRID_CI_OUTPUT)"
    job = run(plane, history, f"{ASK} > {out} 2> {said}; {listed}; cat {out}; base64 < {out}; cut -d. -f3 {out}")
    assert job.finish["error_message"] is None
    assert (out.read_text(), said.read_text()) == (f"head.body.{SIGNATURE}\n", "")
    assert job.audiences == ["sts.amazonaws.com"]
    assert "── identity token for sts.amazonaws.com\n" in job.text
    assert "head" not in job.text, "the log does not show the token"
    assert SIGNATURE not in job.text
    assert job.text.count("***") == 3
    assert ".answer" not in job.text, "the token stays in the folder of the job"


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (
            400,
            {
                "code": "invalid_input",
                "detail": "audience: must be visible",
                "errors": [{"field": "audience", "message": "must be visible"}],
            },
            "audience: must be visible",
        ),
        (403, {"code": "environment_forbidden", "detail": "It may not deploy there."}, "It may not deploy there."),
        (429, {"code": "too_many_identity_tokens", "detail": "It has got 100."}, "It has got 100."),
        (404, {"code": "not_found", "detail": "No such address."}, "this version of the control plane issues no"),
    ],
    ids=lambda part: part["code"] if isinstance(part, dict) else "",
)
def test_a_step_learns_why_it_gets_no_token_at_once(
    plane: FakeControlPlane, history: History, status: int, answer: dict[str, Any], said: str
) -> None:
    plane.token_answer = status, answer
    job = run(plane, history, f'set +e; T=$({ASK}); echo "code $? token [$T]"')
    assert f"agent token: {said}" in job.text
    assert "code 1 token []\n" in job.text
    assert len(job.audiences) == 1


def test_outside_of_a_step_there_is_no_token() -> None:
    env = {name: value for name, value in os.environ.items() if name != "HYBRID_CI_OUTPUT"}
    command = [sys.executable, "-m", "agent", "token", "--audience", "aws"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"this works only in a step of a job" in done.stderr


class Plane:
    """Answers as the test says."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer

    def post(self, request: str, _job: Assignment, _document: Any, *, understand: Any, stop: threading.Event) -> Any:
        assert request == "token"
        assert not stop.is_set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return understand({"token": self.answer})


class Log:
    """Keeps the agent's own lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.added = AddedMasks(Masks())

    def say(self, text: str) -> None:
        self.lines.append(text)


def asked(answer: str | Exception) -> tuple[tuple[int, str], Attempt, Log]:
    """What a step gets, the attempt, and the log."""
    attempt, log = Attempt(Assignment("job1", 1), lambda: None), Log()
    tokens = JobTokens(Plane(answer), attempt, log)  # type: ignore[arg-type]
    return tokens.send("aws\n\x1b[31m"), attempt, log


def test_the_log_masks_the_token_and_its_signature_alone() -> None:
    token = f"head.body.{SIGNATURE}"
    answer, _, log = asked(token)
    assert answer == (0, token)
    assert log.added.masks.mask_text(f"{token} and {SIGNATURE}") == "*** and ***"
    assert "\n" not in log.lines[0]
    assert "\x1b" not in log.lines[0]


def test_an_attempt_that_is_no_longer_the_agents_ends() -> None:
    answer, attempt, log = asked(Refused(409, "stale_attempt", "It is over.", []))
    assert (answer, attempt.end_reason) == ((1, "It is over."), ABANDON)
    assert not log.added.masks


def test_a_job_that_ends_gets_no_token() -> None:
    answer, attempt, _ = asked(GivenUp())
    assert (answer, attempt.end_reason) == ((1, "the job ends"), None)
