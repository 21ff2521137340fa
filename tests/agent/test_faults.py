"""How the agent handles a control plane that does not answer, fails, loses answers, or cancels and moves jobs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import LOSE, FakeControlPlane


@pytest.fixture
def busy(serial_agent: AgentProcess, shared_plane: FakeControlPlane) -> Iterator[FakeControlPlane]:
    """The control plane of an agent that has begun, and that several tests give jobs to."""
    yield shared_plane
    assert shared_plane.problems == []
    assert not any(fault.times for fault in shared_plane.faults)


COUNT = "for i in $(seq 1 20); do echo line $i; sleep 0.1; done"
COUNTED = "".join(f"line {number}\n" for number in range(1, 21))


def test_a_job_survives_an_outage_of_the_control_plane(busy: FakeControlPlane, history: History) -> None:
    job = busy.add_job(history.url, run=COUNT)
    busy.wait_for_output(job, "line 3")
    with busy.unreachable():
        time.sleep(2.5)
    assert busy.finished(job)["exit_code"] == 0
    assert COUNTED in job.text


def test_the_next_start_delivers_an_undelivered_result(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="echo begun; sleep 1; echo done")
    agent.start()
    plane.wait_for_output(job, "begun")
    with plane.unreachable():
        eventually(lambda: list((agent.state / "spool").glob("*/finish.json")))
        agent.kill()
    heartbeats = len(plane.heartbeats)
    agent.start()
    plane.finished(job)
    assert "done" in job.text
    assert (job.starts, job.finishes) == (1, 1)
    plane.wait_for(lambda: len(plane.heartbeats) > heartbeats)
    eventually(lambda: not list((agent.state / "spool").iterdir()))


def test_heartbeats_name_an_undelivered_result_and_so_keep_its_lease(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    plane.fail("/finish", 503, times=1000)
    job = plane.add_job(history.url)
    agent.start()
    eventually(lambda: list((agent.state / "spool").glob("*/finish.json")))
    agent.kill()
    heartbeats = len(plane.heartbeats)
    agent.start()
    plane.wait_for(lambda: len(plane.heartbeats) > heartbeats)
    (entry,) = plane.heartbeats[-1]["running"]
    assert (entry["job_id"], entry["steps"][0]["state"]) == (job.job_id, "completed")
    plane.faults.clear()
    plane.finished(job)


@pytest.mark.parametrize("request_", ["start", "definition", "log", "finish", "heartbeat"])
@pytest.mark.parametrize("fault", [LOSE, 500, 429])
def test_a_request_with_a_temporary_failure_is_retried(
    request_: str, fault: int | str, busy: FakeControlPlane, history: History
) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"steps:\n", f"retried-{request_}-{fault}".replace(" ", "-"))
    answer = {"steps": [{"name": "a", "run": "echo once", "env": {}, "timeout": None}], "env": {}, "timeout": None}
    busy.fail(f"/{request_}", fault)
    job = busy.add_job(history.url, branch, from_repository=True, definition_answer=(200, answer))
    assert busy.finished(job)["exit_code"] == 0
    assert job.text.count("once\n") == 1
    assert job.starts <= 3


def test_the_agent_waits_as_long_as_retry_after_asks(agent: AgentProcess, plane: FakeControlPlane) -> None:
    plane.fail("/heartbeat", 429, Retry_After="2")
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    refused, taken = [at for at, path in plane.arrivals if path.endswith("/heartbeat")][:2]
    assert taken - refused >= 2


def test_a_full_spool_makes_the_step_wait_and_loses_no_output(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    job = plane.add_job(history.url, run=f"echo begun; sleep 1; seq 1 500000; touch {tmp_path}/printed")
    agent.start("--spool-limit=1")
    plane.wait_for_output(job, "begun")
    with plane.unreachable():
        time.sleep(2.5)
        assert not (tmp_path / "printed").exists()
        kept = sum(path.stat().st_size for path in (agent.state / "spool").glob("*/0*"))
        assert 1_000_000 < kept < 1_300_000
    assert plane.finished(job)["exit_code"] == 0
    assert "".join(f"{number}\n" for number in range(1, 500_001)) in job.text


def test_a_cancelled_job_that_prints_ends_at_once(busy: FakeControlPlane, history: History) -> None:
    steps = [{"name": "a", "run": "while true; do echo printing; sleep 0.2; done"}, {"name": "b", "run": "true"}]
    job = busy.add_job(history.url, steps=steps)
    busy.wait_for_output(job, "printing")
    job.command = "cancel"
    began = time.monotonic()
    finish = busy.finished(job)
    assert time.monotonic() - began < 3
    assert [step["state"] for step in finish["steps"]] == ["cancelled", "skipped"]
    assert finish["exit_code"] is None
    assert finish["error_message"] == "The job was cancelled."


def test_a_cancelled_job_that_is_silent_ends_with_the_next_heartbeat(busy: FakeControlPlane, history: History) -> None:
    job = busy.add_job(history.url, run="echo begun; sleep 300")
    job.command_in_log_answers = False
    busy.wait_for_output(job, "begun")
    job.command = "cancel"
    finish = busy.finished(job, 13)
    assert finish["steps"][0]["state"] == "cancelled"


def test_a_job_that_is_cancelled_during_the_checkout_runs_no_step(busy: FakeControlPlane) -> None:
    # This server accepts connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        job = busy.add_job(f"http://127.0.0.1:{silent.getsockname()[1]}/repository.git")
        job.command = "cancel"
        finish = busy.finished(job)
    assert [step["state"] for step in finish["steps"]] == ["skipped"]
    assert finish["error_message"] == "The job was cancelled."


@pytest.mark.parametrize("how", ["log", "abandon"])
def test_an_attempt_that_no_longer_belongs_to_the_agent_is_dropped_without_a_report(
    how: str, serial_agent: AgentProcess, busy: FakeControlPlane, history: History
) -> None:
    job = busy.add_job(history.url, run="echo begun; while true; do echo more; sleep 0.2; done")
    busy.wait_for_output(job, "begun")
    if how == "log":
        job.stale = True
    else:
        job.command = "abandon"
    following = busy.add_job(history.url)
    assert busy.finished(following)["exit_code"] == 0
    assert (job.finishes, job.finish) == (0, None)
    eventually(lambda: not list((serial_agent.state / "spool").iterdir()))


@pytest.mark.parametrize("request_", ["start", "finish"])
def test_a_stale_attempt_is_dropped_and_the_agent_goes_on(
    request_: str, serial_agent: AgentProcess, busy: FakeControlPlane, history: History
) -> None:
    if request_ == "finish":
        busy.fail("/finish", 409, code="stale_attempt")
    job = busy.add_job(history.url)
    job.stale = request_ == "start"
    busy.wait_for(lambda: any(path.endswith(f"/{job.job_id}/{request_}") for _, path in busy.requests))
    assert busy.finished(busy.add_job(history.url))["exit_code"] == 0
    assert job.finish is None
    eventually(lambda: not list((serial_agent.state / "spool").iterdir()))


def test_the_agent_drops_a_job_that_the_control_plane_refuses_and_logs_the_reason(
    serial_agent: AgentProcess, busy: FakeControlPlane, history: History
) -> None:
    busy.fail("/finish", 400, code="invalid_input")
    job = busy.add_job(history.url)
    reason = "the control plane refused a request for it (400 invalid_input: a fault on demand)"
    eventually(lambda: f"the agent drops job {job.job_id} attempt 1: {reason}" in serial_agent.output)
    assert busy.finished(busy.add_job(history.url))["exit_code"] == 0
