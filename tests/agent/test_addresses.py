"""Several addresses of one control plane: when the agent goes to another one, when it returns, and who gets what."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import addresses as addresses_module
from agent import clock
from agent.address import TIMEOUT_SECONDS
from agent.addresses import MAIN_AGAIN_SECONDS, MOST_ADDRESSES, Addresses
from agent.client import Refused, Unreachable
from agent.heartbeat import BUSY_SECONDS, Heartbeat
from agent.identity import Identity, identity_load
from agent.machine import any_resolves
from agent.options import options_parser
from agent.protocol import Assignment, ControlPlane
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.doors import Door
from tests.agent.fake_server import LOSE, FakeControlPlane
from tests.agent.peers import PROBLEM, Client, problem

LEASE_SECONDS = 45
KEY = b"k" * 32
# Limits of less than a second, for the agent as a process.
QUICK = (
    "import sys; from agent import address, addresses; from agent.cli import agent_main; "
    "address.TIMEOUT_SECONDS = addresses._SEARCH_SECONDS = 1.0; "
    "sys.exit(agent_main(sys.argv[1:]))"
)

NewDoor = Callable[..., Door]


@pytest.fixture
def door(plane: FakeControlPlane) -> Iterator[NewDoor]:
    """Makes more addresses of a control plane."""
    doors: list[Door] = []

    def new(prefix: str = "", *, of: FakeControlPlane = plane, is_open: bool = True) -> Door:
        doors.append(Door(of, prefix, is_open=is_open))
        return doors[-1]

    yield new
    for one in doors:
        one.close()


@pytest.fixture
def stranger() -> Iterator[FakeControlPlane]:
    """Another control plane, which knows no agent."""
    stranger = FakeControlPlane()
    yield stranger
    stranger.close()


class Machine:
    """An enrolled agent's client and heartbeats; the test sends each heartbeat and moves the clock of the addresses."""

    def __init__(self, folder: Path, plane: FakeControlPlane, *doors: Door | str) -> None:
        plane.keys["agent1.1"] = KEY
        urls = [one if isinstance(one, str) else one.url for one in doors]
        self.client = Client(*urls)
        self.client.identity = Identity(url=urls[0], agent_id="agent1", key_id="agent1.1", key=KEY)
        self.now = 1000.0
        self.client.addresses._monotonic = lambda: self.now
        self.plane = ControlPlane(self.client)
        self.heartbeat = Heartbeat(
            self.plane,
            path=folder / "heartbeat.json",
            report=lambda: {"running": [], "free_slots": 0},
            on_answer=lambda _: None,
        )

    @property
    def used(self) -> str:
        return self.client.url

    def beat(self, times: int = 1) -> float:
        """Send so many heartbeats at once. Returns the pause after the last."""
        for _ in range(times):
            pause, _ = self.heartbeat._send()
        return pause

    def log(self, sequence: int = 0) -> None:
        """Deliver a chunk, for as long as it takes."""
        self.plane.log(Assignment("job1", 1), sequence, b"printed", times=lambda: "0", stop=threading.Event())


def switches(text: str) -> list[str]:
    return [line for line in text.splitlines() if "the agent uses" in line]


# Which failures are a reason to go to another address


def test_a_heartbeat_goes_to_the_fallback_when_the_main_address_refuses_connections(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main, fallback = door(is_open=False), door("/staging")
    machine = Machine(tmp_path, plane, main, fallback)
    assert machine.beat() < 0.6
    machine.beat(3)
    assert len(plane.heartbeats) == 3
    assert fallback.seen == ["/staging/agents/agent1/heartbeat"] * 3
    (line,) = switches(caplog.text)
    assert f"{main.url} does not answer (no answer ([Errno 111] Connection refused)); the agent uses" in line
    assert line.endswith(fallback.url)


def test_a_request_wakes_a_heartbeat_and_waits_until_that_has_found_an_address(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    plane.add_job("https://example.org/x").job_id = "job1"
    (plane.jobs["job1"],) = plane.jobs.values()
    main, fallback = door(is_open=False), door("/staging")
    machine = Machine(tmp_path, plane, main, fallback)
    woken = threading.Event()
    machine.client.addresses.on_doubt = woken.set
    thread = threading.Thread(target=machine.log, daemon=True)
    thread.start()
    assert woken.wait(5)
    thread.join(0.5)
    assert fallback.seen == [], "a log goes nowhere before a heartbeat was answered there"
    machine.beat()
    thread.join(5)
    assert fallback.seen == ["/staging/agents/agent1/heartbeat", "/staging/agents/agent1/jobs/job1/log/1/0"]


@pytest.mark.parametrize("status", [502, 503, 504, 200, 302, 403, 404])
def test_a_page_of_something_in_between_is_a_reason_to_switch_and_its_retry_after_is_not_obeyed(
    status: int, plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    main, fallback = door(), door()
    main.page = (status, {"Retry-After": "120"})
    machine = Machine(tmp_path, plane, main, fallback)
    assert machine.beat() < 0.6
    machine.beat()
    assert machine.used == fallback.url


@pytest.mark.parametrize("status", [429, 500])
def test_a_gateway_whose_function_fails_or_is_busy_is_no_reason_to_switch(
    status: int, plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    main, fallback = door(), door()
    main.page = (status, {"Retry-After": "7"})
    machine = Machine(tmp_path, plane, main, fallback)
    assert machine.beat(3) >= 7
    assert (machine.used, fallback.seen) == (main.url, [])


@pytest.mark.parametrize("status", [502, 503, 504])
def test_the_control_planes_own_answer_that_it_is_busy_is_no_reason_to_switch(
    status: int, plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    main, fallback = door(), door()
    machine = Machine(tmp_path, plane, main, fallback)
    plane.fail("/heartbeat", status, times=3, code="unavailable", Retry_After="7")
    assert machine.beat(3) >= 7
    machine.beat()
    assert (machine.used, len(main.seen), fallback.seen) == (main.url, 4, [])


@pytest.mark.parametrize("status", [403, 413])
def test_a_refusal_of_one_request_by_a_gateway_is_no_reason_to_switch(
    status: int, plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    main, fallback = door(), door()
    main.page = (status, {})
    machine = Machine(tmp_path, plane, main, fallback)
    with pytest.raises(Unreachable, match=str(status)):
        machine.plane.configuration()
    assert not machine.client.addresses.are_in_doubt


def test_a_server_without_tls_at_an_https_address_is_a_reason_to_switch(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    main, fallback = door(), door()
    machine = Machine(tmp_path, plane, main.url.replace("http:", "https:"), fallback)
    machine.beat(2)
    assert machine.used == fallback.url
    assert main.seen == []


def test_a_closed_connection_is_tried_anew_before_the_agent_switches(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    main, fallback = door(), door()
    machine = Machine(tmp_path, plane, main, fallback)
    machine.beat()
    # The server closes the connection when the request is already on its way.
    plane.fail("/heartbeat", LOSE)
    machine.beat(2)
    assert (machine.used, fallback.seen) == (main.url, [])


def test_a_name_without_address_is_a_reason_to_switch_even_if_the_resolver_hangs(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "hangs.example":
            over.wait(30)
        if host.endswith(".example"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(addresses_module, "_SEARCH_SECONDS", 0.9)
    fallback = door()
    machine = Machine(tmp_path, plane, "http://hangs.example", "http://missing.example", fallback)
    began = time.monotonic()
    machine.beat(3)
    assert time.monotonic() - began < 2
    assert machine.used == fallback.url
    over.set()


@pytest.mark.parametrize("count", range(1, MOST_ADDRESSES + 1))
def test_the_last_of_all_addresses_gets_its_heartbeat_within_the_lease(count: int) -> None:
    addresses = Addresses([f"http://{number}.example.org" for number in range(count)])
    spent = BUSY_SECONDS
    for failures in range(count):
        one = addresses.choose(searches=True)
        assert one is not None
        # The connection and the answer of a single address take that long each; it is as it was before.
        spent += one.within or TIMEOUT_SECONDS
        if failures < count - 1:
            spent += min(BUSY_SECONDS, 0.5 * 2**failures)
            addresses.failed(one.address, "black hole", searches=True)
    assert spent < LEASE_SECONDS


def test_an_address_that_accepts_and_never_answers_costs_no_more_than_its_share(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses_module, "_SEARCH_SECONDS", 0.8)
    main, fallback = door(), door()
    machine = Machine(tmp_path, plane, main, fallback)
    machine.beat()
    main.is_silent = True
    began = time.monotonic()
    machine.beat(2)
    assert time.monotonic() - began < 2
    assert machine.used == fallback.url


# Back to the main address


def test_the_main_address_is_tried_once_a_minute_and_used_again_when_it_answers(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    main, fallback = door(), door()
    machine = Machine(tmp_path, plane, main, fallback)
    main.page = (502, {})
    machine.beat(3)
    asked = len(main.seen)
    machine.now += MAIN_AGAIN_SECONDS - 1
    machine.beat()
    assert len(main.seen) == asked
    caplog.clear()
    machine.now += 1
    assert machine.beat() == 0, "the heartbeat to the address in use must follow at once"
    machine.beat(2)
    assert len(main.seen) == asked + 1
    assert (machine.used, caplog.text) == (fallback.url, "")
    main.page = None
    machine.now += MAIN_AGAIN_SECONDS
    machine.beat()
    assert machine.used == main.url
    assert f"{main.url} answers again; the agent uses it instead of {fallback.url}" in caplog.text


def test_a_main_address_that_is_lost_again_and_again_is_tried_less_often() -> None:
    now = 1000.0
    addresses = Addresses(["http://main.example.org", "http://fallback.example.org"], monotonic=lambda: now)
    main = addresses.used

    def seconds_until_it_is_used_again() -> float:
        nonlocal now
        addresses.failed(main, "a log was too large for it", searches=False)
        began = now
        while True:
            one = addresses.choose(searches=True)
            assert one is not None
            addresses.answered(one.address, proven=True)
            if addresses.used is main:
                return now - began
            now += 1

    assert [seconds_until_it_is_used_again() for _ in range(7)] == [60, 120, 240, 480, 960, 960, 960]
    now += 1000
    assert seconds_until_it_is_used_again() == 60


def test_while_no_address_answers_nothing_is_said_about_a_switch_and_the_first_to_return_is_used(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    doors = [door() for _ in range(3)]
    machine = Machine(tmp_path, plane, *doors)
    for one in doors:
        one.page = (502, {})
    machine.beat(7)
    assert [len(one.seen) for one in doors] == [3, 2, 2]
    assert switches(caplog.text) == []
    doors[2].page = None
    machine.beat(3)
    assert machine.used == doors[2].url
    assert len(switches(caplog.text)) == 1


def test_the_time_of_heartbeats_goes_on_when_an_answer_was_lost(
    plane: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    # The fixture of the control plane fails the test if a time or a nonce comes twice.
    main, fallback = door(), door()
    machine = Machine(tmp_path, plane, main, fallback)
    plane.fail("/heartbeat", LOSE, times=1)
    machine.beat(2)
    assert (machine.used, len(plane.heartbeats)) == (fallback.url, 2)


# Another control plane


def test_another_control_plane_at_the_fallback_gets_one_heartbeat_and_nothing_else(
    plane: FakeControlPlane,
    stranger: FakeControlPlane,
    door: NewDoor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane.add_job("https://example.org/x").job_id = "job1"
    (plane.jobs["job1"],) = plane.jobs.values()
    main, fallback = door(), door(of=stranger)
    machine = Machine(tmp_path, plane, main, fallback)
    machine.beat()
    main.page = (502, {})
    thread = threading.Thread(target=machine.log, daemon=True)
    thread.start()
    eventually(lambda: machine.client.addresses.are_in_doubt)
    # Many more than after which a key that is unknown ends the agent.
    machine.beat(8)
    assert fallback.seen == ["/agents/agent1/heartbeat"]
    assert f"{fallback.url} does not know this agent (401 key_unknown: The key is unknown.)" in caplog.text
    assert caplog.text.count("address of another control plane") == 1
    assert switches(caplog.text) == []
    machine.now += 600
    machine.beat(2)
    assert len(fallback.seen) == 2
    main.page = None
    machine.beat(2)
    thread.join(5)
    assert machine.used == main.url
    assert plane.jobs["job1"].text == "printed"


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (401, "signature_invalid"), (403, "wrong_agent")])
def test_no_refusal_by_a_fallback_that_is_not_in_use_ends_the_agent_or_moves_it(
    status: int, code: str, plane: FakeControlPlane, door: NewDoor, peer: Any, tmp_path: Path
) -> None:
    peer.script[:] = [(status, PROBLEM, problem(code))]
    main = door(is_open=False)
    machine = Machine(tmp_path, plane, main, peer.url)
    machine.beat(8)
    assert machine.used == main.url
    assert machine.client.addresses.are_in_doubt
    main.open()
    machine.beat(2)
    assert (machine.used, machine.client.addresses.are_in_doubt) == (main.url, False)


def test_a_main_address_that_leads_to_another_control_plane_meanwhile_is_not_returned_to(
    plane: FakeControlPlane,
    stranger: FakeControlPlane,
    door: NewDoor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    main, fallback = door(of=stranger), door()
    main.page = (502, {})
    machine = Machine(tmp_path, plane, main, fallback)
    machine.beat(2)
    main.page = None
    machine.now += MAIN_AGAIN_SECONDS
    machine.beat(2)
    assert machine.used == fallback.url
    assert "address of another control plane" in caplog.text


def test_a_retired_agent_learns_it_at_the_fallback_too(plane: FakeControlPlane, door: NewDoor, tmp_path: Path) -> None:
    machine = Machine(tmp_path, plane, door(is_open=False), door())
    plane.fail("/heartbeat", 403, code="agent_retired")
    machine.beat()
    with pytest.raises(Refused, match="agent_retired"):
        machine.beat()


def test_before_a_heartbeat_was_answered_an_unknown_address_gets_no_other_request(
    plane: FakeControlPlane, stranger: FakeControlPlane, door: NewDoor, tmp_path: Path
) -> None:
    only = door(of=stranger)
    machine = Machine(tmp_path, plane, only)
    machine.client.addresses.check_first()
    with pytest.raises(Refused, match="key_unknown"):
        machine.plane.heartbeat({"running": [], "free_slots": 0}, created=clock.epoch)
    stranger.fail("/heartbeat", 503, code="unavailable")
    machine.beat()
    with pytest.raises(Unreachable, match="no address of the control plane answers"):
        machine.plane.configuration()
    assert set(only.seen) == {"/agents/agent1/heartbeat"}


# The options and the identity


@pytest.mark.parametrize("text", ["http://a http://b", "http://a,http://b", " http://a ,\n http://b,"])
def test_the_variable_takes_addresses_with_spaces_or_commas_between_them(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_CI_URL", text)
    assert options_parser().parse_args([]).url == ["http://a", "http://b"]
    assert options_parser().parse_args(["--url", "http://c", "--url=http://d"]).url == ["http://c", "http://d"]


def test_an_address_that_is_given_twice_counts_once_and_five_are_too_many() -> None:
    assert Addresses(["http://a/", "http://b", "http://a"]).urls == ["http://a", "http://b"]
    with pytest.raises(ValueError, match="5 addresses are given; give 1 to 4"):
        Addresses([f"http://{number}" for number in range(5)])


def test_the_identity_of_an_earlier_version_has_no_fallbacks(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    Identity(url="http://a", agent_id="agent1", key_id="agent1.1", key=KEY, fallbacks=("http://b",)).save(path)
    identity = identity_load(path)
    assert identity is not None
    assert identity.urls == ["http://a", "http://b"]
    document = json.loads(path.read_bytes())
    del document["fallbacks"]
    path.write_text(json.dumps(document))
    identity = identity_load(path)
    assert identity is not None
    assert identity.urls == ["http://a"]


def test_name_resolution_is_judged_by_the_addresses_that_are_names() -> None:
    assert any_resolves(["127.0.0.1"])
    assert any_resolves(["no-such-host.invalid.", "localhost", "127.0.0.1"])


# The agent as a process


def test_an_agent_enrols_and_works_while_only_its_fallback_answers_and_keeps_both_addresses(
    agent: AgentProcess, plane: FakeControlPlane, door: NewDoor, history: History
) -> None:
    main, fallback = door(is_open=False), door("/staging")
    job = plane.add_job(history.url, run="echo over the fallback")
    agent.start(url=f"{main.url} {fallback.url}")
    assert plane.finished(job)["exit_code"] == 0
    assert "over the fallback\n" in job.text
    assert len(switches(agent.output)) == 1
    assert json.loads((agent.state / "identity.json").read_bytes())["fallbacks"] == [fallback.url]
    agent.kill()
    # Neither without an address nor with others does it enrol again.
    for arguments in (["--url="], ["--url=http://127.0.0.1:1", f"--url={fallback.url}"]):
        plane.heartbeats.clear()
        agent.start(*arguments, token=None)
        plane.wait_for(lambda: plane.heartbeats)
        agent.kill()
    assert len(plane.enrolments) == 1


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_a_job_goes_on_when_the_main_address_is_lost_in_the_middle_of_its_log(
    how: str, agent: AgentProcess, plane: FakeControlPlane, door: NewDoor, history: History
) -> None:
    main, fallback = door(), door("/staging")
    plane.moved = "/v2"
    plane.config["endpoints"] = {"log": "/v2/agents/agent1/jobs/{job_id}/log/{attempt}/{sequence}"}
    job = plane.add_job(history.url, run="for i in $(seq 1 9); do echo line $i; sleep 0.1; done")
    agent.start(url=f"{main.url},{fallback.url}", command=[sys.executable, "-c", QUICK])
    plane.wait_for_output(job, "line 2\n")
    if how == "refuses":
        main.close()
    else:
        main.is_silent = True
    assert plane.finished(job)["exit_code"] == 0
    assert "".join(f"line {number}\n" for number in range(1, 10)) in job.text
    assert job.starts == 1
    assert any(path.startswith(f"/staging/v2/agents/agent1/jobs/{job.job_id}/log/") for path in fallback.seen)
    assert len([line for line in switches(agent.output) if "does not answer" in line]) == 1


def test_an_agent_with_the_identity_of_another_control_plane_sends_it_nothing_but_heartbeats_and_says_so(
    agent: AgentProcess, plane: FakeControlPlane, stranger: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="echo begun; sleep 0.3")
    agent.start()
    plane.wait_for_output(job, "begun")
    with plane.unreachable():
        eventually(lambda: list((agent.state / "spool").glob("*/finish.json")))
        agent.kill()
    program = (
        "import sys; from agent import heartbeat; from agent.cli import agent_main; "
        "heartbeat.PATIENCE['key_unknown'] = (0.5, 2); sys.exit(agent_main(sys.argv[1:]))"
    )
    agent.start(url=stranger.url, token=None, command=[sys.executable, "-c", program])
    assert agent.exit_code() == 3
    assert f"The control plane {stranger.url} has not known this agent's key" in agent.output
    assert {path for _, path in stranger.requests} == {"/agents/agent1/heartbeat"}
    assert (agent.state / "identity.json").exists()
    assert job.finish is None
