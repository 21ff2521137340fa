"""A clock that is off: the agent goes by the control plane's Date header, if that helps."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from agent import clock
from agent.client import Unreachable
from agent.identity import Identity
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane
from tests.agent.peers import PROBLEM, Client, problem

DAY = 86_400


@pytest.fixture(autouse=True)
def _machine_clock() -> Iterator[None]:
    yield
    clock.set_offset(0)


def date(seconds: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(clock.epoch() - clock.offset() + seconds))


def expired(**headers: str) -> tuple[int, dict[str, str], bytes]:
    # The server of the test sends a Date header of its own before this one.
    return 401, {**PROBLEM, **headers}, problem("signature_expired")


@pytest.fixture
def times(peer: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times of the signatures of `send`."""
    # By default the base class adds the right Date.
    monkeypatch.setattr(peer, "send_response", peer.send_response_only)
    return []


def send(peer: Any, times: list[int]) -> Any:
    def created() -> int:
        times.append(clock.epoch())
        return times[-1]

    client = Client(peer.url)
    client.identity = Identity(url=peer.url, agent_id="a", key_id="a.1", key=b"k" * 32)
    return client.send("POST", "/x", understand=lambda answer: answer["ok"], created=created)


@pytest.mark.parametrize("off", [-DAY, DAY, -50 * 365 * DAY // 10])
def test_a_clock_that_is_off_is_corrected_from_the_date_header_and_logged(
    off: int,
    peer: Any,
    times: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.script[:] = [expired(Date=date(off)), (200, {}, b'{"ok": true}')]
    machine = clock.epoch()
    with caplog.at_level(logging.WARNING):
        assert send(peer, times)
    assert [moment - machine for moment in times] == [pytest.approx(0, abs=3), pytest.approx(off, abs=3)]
    side = "behind" if off > 0 else "ahead of"
    warning = re.search(rf"this machine's clock is (\d+) s {side} that of the control plane", caplog.text)
    assert warning is not None
    assert int(warning[1]) == pytest.approx(abs(off), abs=3)
    moment = datetime.fromisoformat(clock.timestamp().replace("Z", "+00:00"))
    assert abs(moment.timestamp() - machine - off) < 5
    # All further requests have the right time at once.
    assert send(peer, times)
    assert len(peer.seen) == 3


def test_a_clock_that_was_set_right_in_the_meantime_is_noticed(
    peer: Any,
    times: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock.set_offset(DAY)
    peer.script[:] = [expired(Date=date(0)), (200, {}, b'{"ok": true}')]
    with caplog.at_level(logging.INFO):
        assert send(peer, times)
    assert clock.offset() == 0
    assert "agrees with that of the control plane again" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 99 Foo 0000 99:99:99 GMT",
        "9" * 5000,
    ],
)
def test_a_senseless_date_header_changes_nothing_and_costs_no_second_request(
    text: str,
    peer: Any,
    times: list[int],
) -> None:
    peer.script[:] = [expired(Date=text)]
    with pytest.raises(Unreachable, match="401"):
        send(peer, times)
    assert (clock.offset(), len(peer.seen)) == (0, 1)


def test_without_a_date_header_an_expired_signature_is_retried_later(peer: Any, times: list[int]) -> None:
    peer.script[:] = [expired()]
    with pytest.raises(Unreachable, match="401"):
        send(peer, times)
    assert (clock.offset(), len(peer.seen)) == (0, 1)


def test_a_hostile_date_header_is_tried_once_and_forgotten(peer: Any, times: list[int]) -> None:
    peer.script[:] = [expired(Date=date(10 * DAY))]
    with pytest.raises(Unreachable, match="401"):
        send(peer, times)
    assert (clock.offset(), len(peer.seen)) == (0, 2)


def test_a_delayed_request_is_signed_again_without_a_warning_about_the_clock(
    peer: Any,
    times: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.script[:] = [expired(Date=date(1)), (200, {}, b'{"ok": true}')]
    with caplog.at_level(logging.INFO):
        assert send(peer, times)
    assert clock.offset() == 0
    assert caplog.text == ""


def test_a_gateway_cannot_set_the_clock(peer: Any, times: list[int]) -> None:
    body = problem("signature_expired")
    peer.script[:] = [(401, {"Content-Type": "application/json", "Date": date(DAY)}, body)]
    with pytest.raises(Unreachable):
        send(peer, times)
    assert (clock.offset(), len(peer.seen)) == (0, 1)


@pytest.mark.parametrize("ahead", [DAY, -DAY])
def test_an_agent_whose_clock_is_off_by_a_day_runs_jobs_and_reports_the_right_times(
    ahead: int, agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    plane.clock_ahead = ahead
    job = plane.add_job(history.url)
    agent.start()
    finish = plane.finished(job)
    assert finish["exit_code"] == 0
    started = datetime.fromisoformat(finish["steps"][0]["started_at"].replace("Z", "+00:00"))
    assert abs(started.timestamp() - clock.epoch() - ahead) < 60
    eventually(lambda: "this machine's clock is" in agent.output)
    # Not even the requests of several threads are refused again and again.
    assert plane.expired <= 3
