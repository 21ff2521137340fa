"""The command line in this process, as a user of the real server, or of one that is hostile."""

import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hci import follow
from hci.main import run

from tests.clients import Client
from tests.conftest import person
from tests.jobs.conftest import agent, make_agent, make_job, operator_actor, pipeline, worker

__all__ = ["agent", "make_agent", "make_job", "operator_actor", "pipeline", "worker"]


@dataclass(frozen=True)
class Outcome:
    """How a call of the program ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Stream(io.TextIOWrapper):
    """A standard stream: a pipe, or a terminal."""

    def __init__(self, content: bytes = b"", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def printed(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for settings, and no variables of the one who runs the tests."""
    for name in ("HCI_SERVER", "HCI_TOKEN", "HCI_PROFILE", "NO_COLOR", "HTTP_PROXY", "http_proxy", "HCI_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "settings" / "hci"


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's keyring is not the tests'."""
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long for an answer or for a log."""
    monkeypatch.setattr(follow, "_SHORTEST", 0.01)
    monkeypatch.setattr(follow, "_LONGEST", 0.05)
    monkeypatch.setattr(follow, "FOLLOW_PATIENCE", 5.0)


def hci(*arguments: str, stdin: bytes | str = b"", terminal: bool = False) -> Outcome:
    """Call the program in this process; its output goes to a pipe, or to a terminal."""
    before = sys.stdin, sys.stdout, sys.stderr
    out, err = Stream(terminal=terminal), Stream()
    content = stdin.encode() if isinstance(stdin, str) else stdin
    sys.stdin, sys.stdout, sys.stderr = Stream(content), out, err
    try:
        code = int(run(arguments))
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    return Outcome(code, out.printed(), err.printed())


def as_user(server: str, role: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A user of this role, whose token the program has by HCI_TOKEN."""
    client = person(server, role)
    monkeypatch.setenv("HCI_SERVER", server)
    monkeypatch.setenv("HCI_TOKEN", str(client.token))
    return client


@pytest.fixture
def user(server: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """An operator."""
    return as_user(server, "operator", monkeypatch)


@pytest.fixture
def boss(server: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """An admin."""
    return as_user(server, "admin", monkeypatch)


def answer(body: Any = b"", *, status: str = "200 OK", **headers: str) -> bytes:
    """An HTTP answer as it goes over the wire."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Length": str(len(content)), "Connection": "close"}
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content


@dataclass
class Scripted:
    """A server that gives these answers, one after the other, and the last one again and again."""

    url: str
    asked: list[bytes] = field(default_factory=list)
    answers: list[bytes | Callable[[bytes], bytes]] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = _request(connection)
                self.asked.append(request)
                found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                with suppress(OSError):
                    # The client may have heard enough.
                    connection.sendall(found(request) if callable(found) else found)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    wanted = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while wanted and len(body) < wanted[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@dataclass
class Clock:
    """Time passes only while someone sleeps."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """A server with a will of its own, which the program takes for the control plane. Waits take no time."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}")
    thread = threading.Thread(target=found.serve, args=[listener], daemon=True)
    thread.start()
    monkeypatch.setenv("HCI_SERVER", found.url)
    monkeypatch.setenv("HCI_TOKEN", "hcp_someone")
    monkeypatch.setattr("hci.client.time", Clock())
    yield found
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(timeout=5)
