"""Heartbeats: which refusals end the agent, and when."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import clock
from agent.client import Refused, Unreachable
from agent.heartbeat import Heartbeat
from agent.machine import boot_id, hostname
from agent.protocol import HeartbeatAnswer
from agent.refusals import ABOUT_REQUEST
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane

FINE = HeartbeatAnswer(status="healthy", next_check_interval=15, config_version=1, jobs=[], commands=[])


class Plane:
    """Gives the results of the script and repeats the last one."""

    def __init__(self, *script: HeartbeatAnswer | Exception) -> None:
        self.script = list(script)

    def heartbeat(self, _report: dict[str, Any], *, created: Callable[[], int]) -> HeartbeatAnswer:
        created()
        result = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(result, Exception):
            raise result
        return result


class Case:
    """Heartbeats whose clock the test moves."""

    def __init__(self, folder: Path, *script: HeartbeatAnswer | Exception) -> None:
        self.now = 1000.0
        self.plane = Plane(*script)
        self.heartbeat = Heartbeat(
            self.plane,  # type: ignore[arg-type]
            path=folder / "heartbeat.json",
            report=lambda: {"running": []},
            on_answer=lambda _: None,
            monotonic=lambda: self.now,
        )

    def send(self, times: int = 1, apart: float = 0.0) -> None:
        for _ in range(times):
            pause, _ = self.heartbeat._send()
            assert pause > 0.2, "a heartbeat follows at once"
            self.now += apart

    def seconds_until_the_end(self) -> float:
        began = self.now
        with pytest.raises(Refused):
            self.send(times=1000, apart=10)
        return self.now - began


def refusal(code: str) -> Refused:
    return Refused(409, code, "a sentence", [])


def test_a_retired_agent_ends_at_once(tmp_path: Path) -> None:
    assert Case(tmp_path, refusal("agent_retired")).seconds_until_the_end() == 0


def test_an_identity_that_another_machine_uses_is_retried_for_two_minutes(tmp_path: Path) -> None:
    assert Case(tmp_path, refusal("identity_in_use")).seconds_until_the_end() == pytest.approx(120, abs=10)


def test_a_key_must_stay_unknown_for_minutes_to_end_the_agent(tmp_path: Path) -> None:
    assert Case(tmp_path, refusal("key_unknown")).seconds_until_the_end() == pytest.approx(300, abs=10)


@pytest.mark.parametrize("between", [FINE, Unreachable("403 of a gateway"), refusal("identity_in_use")])
def test_a_key_that_is_unknown_now_and_then_ends_no_agent(between: HeartbeatAnswer | Exception, tmp_path: Path) -> None:
    case = Case(tmp_path, *[*[refusal("key_unknown")] * 20, between] * 5, FINE)
    case.send(times=106, apart=10)


def test_an_agent_that_was_frozen_between_two_refusals_does_not_end(tmp_path: Path) -> None:
    case = Case(tmp_path, refusal("key_unknown"))
    case.send(apart=3600)
    case.send(times=3)


@pytest.mark.parametrize("error", [*map(refusal, sorted(ABOUT_REQUEST)), Unreachable("403", None)])
def test_no_other_refusal_of_a_heartbeat_ends_the_agent(error: Exception, tmp_path: Path) -> None:
    Case(tmp_path, error).send(times=200, apart=60)


def test_a_state_directory_without_room_does_not_stop_heartbeats(tmp_path: Path) -> None:
    case = Case(tmp_path / "that-is-missing", FINE)
    case.send(times=3)
    assert case.heartbeat._last_created > 0


def test_a_clock_that_drifts_out_of_the_window_costs_no_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine is ahead, so a recorded heartbeat has a time that is still to come for the control plane.
    machine, ahead, offset, recorded = 10_000, 299, 0, 0
    monkeypatch.setattr(clock, "epoch", lambda: machine + offset)

    class Server(Plane):
        """The control plane and the client's correction of the clock."""

        def heartbeat(self, _report: dict[str, Any], *, created: Callable[[], int]) -> HeartbeatAnswer:
            nonlocal offset, recorded
            now, given = machine - ahead, created()
            if given > now + 300:
                offset = -ahead
                given = created()
            assert recorded < given <= now + 300
            recorded = given
            return FINE

    case = Case(tmp_path)
    case.heartbeat._plane = Server(FINE)  # type: ignore[assignment]
    for machine, ahead in ((10_000, 299), (10_010, 301), (10_020, 303), (10_400, 303), (10_410, 303)):  # noqa: B007
        case.send()
    assert recorded == 10_410 - 301


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_senseless_interval_is_no_reason_to_end(seconds: float, tmp_path: Path) -> None:
    answer = HeartbeatAnswer(status="healthy", next_check_interval=seconds, config_version=1, jobs=[], commands=[])
    assert 1 <= Case(tmp_path, answer).heartbeat._send()[0] <= 300


@pytest.mark.parametrize("status", [301, 401, 403, 413])
def test_a_refusal_by_something_in_between_ends_no_agent_and_no_job(
    status: int, agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    for request in ("enrol", "heartbeat", "config", "start", "log", "finish"):
        plane.fail(f"/{request}", status)
    job = plane.add_job(history.url, run="echo done")
    agent.start()
    assert plane.finished(job)["exit_code"] == 0
    assert "done\n" in job.text
    plane.wait_for(lambda: all(fault.times == 0 for fault in plane.faults))
    assert f"failed: {status}" in agent.output


def test_the_definition_of_a_job_survives_a_refusal_by_something_in_between(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"steps:\n", "behind-a-firewall")
    answer = {"steps": [{"name": "a", "run": "echo once", "env": {}, "timeout": None}], "env": {}, "timeout": None}
    job = shared_plane.add_job(history.url, branch, from_repository=True, definition_answer=(200, answer))
    shared_plane.fail("/definition", 403)
    assert shared_plane.finished(job)["exit_code"] == 0


def test_a_retired_agent_keeps_what_is_not_delivered(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    plane.fail("/finish", 403, times=1000, code="agent_retired")
    plane.add_job(history.url, run="true")
    agent.start()
    eventually(lambda: list((agent.state / "spool").glob("*/finish.json")))
    plane.fail("/heartbeat", 403, code="agent_retired")
    assert agent.exit_code() == 3
    assert list((agent.state / "spool").glob("*/finish.json"))


def test_an_agent_with_another_machines_identity_exits_with_the_control_planes_sentence(
    agent: AgentProcess, plane: FakeControlPlane
) -> None:
    # The real patience is two minutes.
    program = (
        "import sys; from agent import heartbeat; from agent.cli import agent_main; "
        "heartbeat.PATIENCE['identity_in_use'] = (0.5, 2); sys.exit(agent_main(sys.argv[1:]))"
    )
    plane.fail("/heartbeat", 409, times=100, code="identity_in_use")
    agent.start(command=[sys.executable, "-c", program])
    assert agent.exit_code() == 3
    assert "The control plane refuses this agent: a fault on demand" in agent.output
    assert "remove" not in agent.output


def test_a_heartbeat_names_the_start_of_the_machine_and_its_name(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane
) -> None:
    shared_plane.wait_for(lambda: shared_plane.heartbeats)
    assert shared_plane.heartbeats[0]["boot_id"] == boot_id() is not None
    assert shared_plane.heartbeats[0]["hostname"] == hostname()
    assert shared_plane.heartbeats[0]["fault"] is None
