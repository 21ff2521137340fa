"""One address: how long its parts may take, and which failures say nothing about it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.address import Address, NoAnswer, _connected

NewAddress = Callable[[str], Address]


@pytest.fixture
def address() -> Iterator[NewAddress]:
    """Makes addresses, and closes their connections."""
    made: list[Address] = []

    def new(url: str) -> Address:
        made.append(Address(url))
        return made[-1]

    yield new
    for one in made:
        one.close_idle()


def exchange(address: Address, within: float | None = None) -> int:
    return address.exchange("POST", "/x", body=b"", headers={}, within=within).status


def test_the_ip_addresses_of_a_name_share_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        # After this one, connections get no answer.
        socket.create_connection(full.getsockname()),
    ):
        places = [one.getsockname() for one in (full, full, full, listener)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        began = time.monotonic()
        _connected("ci.example.org", 80, 1.2).close()
        assert 0.5 < time.monotonic() - began < 1.2


def test_a_resolver_that_hangs_is_left_alone_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30))
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"the name ci\.example\.org was not resolved in time"):
        exchange(Address("http://ci.example.org"), within=0.2)
    assert time.monotonic() - began < 5
    over.set()


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "not known"), UnicodeError("label too long")])
def test_a_name_without_address_is_no_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(NoAnswer, match=r"not known|is not a name \(label too long\)"):
        exchange(Address("http://ci.example.org"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(NoAnswer, match="no IP address"):
        exchange(Address("http://ci.example.org"))


def test_a_machine_with_too_many_threads_resolves_names_all_the_same(
    peer: Any, address: NewAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = address(peer.url)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", type("Refused", (threading.Thread,), {"start": refuse}))
        _connected(connected.host, connected._port, 5).close()


def test_connection_and_answer_share_the_time_of_a_request(peer: Any, address: NewAddress) -> None:
    late = threading.Event()

    def answer_late(handler: Any) -> None:
        late.wait(30)
        handler.close_connection = True

    one = address(peer.url)
    assert exchange(one, within=5) == 200
    peer.do_POST = answer_late
    for _ in ("a connection that was used before", "a new one"):
        began = time.monotonic()
        with pytest.raises(NoAnswer, match="timed out") as caught:
            exchange(one, within=0.2)
        assert 0.1 < time.monotonic() - began < 5
        assert not caught.value.is_stale
    late.set()


def test_only_a_connection_that_was_used_before_can_be_stale(peer: Any, address: NewAddress) -> None:
    one = address(peer.url)
    assert exchange(one) == 200

    def hang_up(handler: Any) -> None:
        handler.close_connection = True

    peer.do_POST = hang_up
    for is_stale in (True, False):
        with pytest.raises(NoAnswer) as caught:
            exchange(one)
        assert caught.value.is_stale == is_stale
