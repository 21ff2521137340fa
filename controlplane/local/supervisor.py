"""Starts the parts of the product on this machine one after the other, and ends them together."""

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from controlplane.local.checkout import Checkout, checkout_find
from controlplane.local.children import Child, Children, Program
from controlplane.local.ending import Stage
from controlplane.local.environment import agent_settings, base_environment, control_plane_settings
from controlplane.local.errors import LocalError
from controlplane.local.state import StateDirectory, write_private

SWEEP_EVERY_SECONDS = 10
_START_SECONDS = 60
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(Exception):
    """A signal has requested the end."""


@dataclass(frozen=True)
class Options:
    """The options of `manage.py local`. `port` 0 means any free port.

    With `reload`, the server starts again when its code or a template changes; the agents and the sweeper do not.
    """

    folder: Path
    state_dir: Path
    port: int
    agents: int
    reload: bool = False


class Supervisor:
    """One run of `manage.py local`."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._stop_signal: signal.Signals | None = None
        self._base = base_environment(os.environ)

    def run(self) -> None:
        """Start everything, print how to use it, and stay until SIGINT, SIGTERM or SIGHUP.

        Raises LocalError when something cannot be started or fails. No process is left then.
        """
        for number in _STOP_SIGNALS:
            signal.signal(number, self._note_signal)
        checkout = checkout_find(self._options.folder)
        self._state = StateDirectory(self._options.state_dir)
        self._state.lock(self._say)
        self._state.forget_without_database()
        web = _listen(self._options.port)
        self._url = f"http://127.0.0.1:{web.getsockname()[1]}"
        self._children = Children(output=self._state.output, folder=self._options.folder, lock_fd=self._state.lock_fd)
        try:
            self._start(checkout, web)
            while True:
                self._pause(0.2)
        except _Stopped:
            self._say(f"Stopping everything ({self._stop_signal.name if self._stop_signal else ''})")
        finally:
            self._children.end_all()
        self._say("Stopped. The data is kept for the next start.")

    def _start(self, checkout: Checkout, web: socket.socket) -> None:
        self._say(f"State directory: {self._state.path}")
        settings = self._start_database()
        self._prepare(settings, checkout)
        self._start_server(settings, web)
        # Its messages have links.
        known = {**settings, "PUBLIC_URL": self._base.get("PUBLIC_URL") or self._url}
        # The checks have passed a moment ago, when the tables were made.
        sweep = self._manage("sweeper", known, "sweep", "--every", str(SWEEP_EVERY_SECONDS), "--skip-checks")
        self._children.start(sweep)
        credentials = json.loads(self._state.credentials.read_text())
        self._start_agents(credentials)
        self._say(_instructions(credentials, checkout, self._state.output))

    def _start_database(self) -> dict[str, str]:
        """Start the emulator. Returns the settings of the processes that use it."""
        listener = _listen(0)
        port = listener.getsockname()[1]
        self._say(f"Starting the DynamoDB emulator on 127.0.0.1:{port}")
        database = Program(
            name="emulator",
            command=[
                *(sys.executable, "-m", "controlplane.local.emulator"),
                *("--fd", str(listener.fileno()), "--state", str(self._state.database)),
            ],
            stage=Stage.DATABASE,
            environment=self._base,
            descriptors=[listener.fileno()],
            lasting=True,
        )
        self._children.start(database)
        # Only the emulator keeps the socket, so that connections fail at once when it has ended.
        listener.close()
        self._wait_for("the emulator", port, "/_ministack/health")
        settings = control_plane_settings(self._state, database_port=port)
        write_private(
            self._state.environment, "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        )
        return settings

    def _prepare(self, settings: dict[str, str], checkout: Checkout) -> None:
        self._say("Creating tables, an admin, tokens and the pipeline `self`, unless they exist")
        program = self._manage(
            "prepare",
            settings,
            "local_prepare",
            f"--credentials={self._state.credentials}",
            f"--url={self._url}",
            f"--repository={checkout.url}",
            f"--ref={checkout.ref}",
        )
        child = self._children.start(program)
        while not child.ended:
            self._pause(0.05, except_for=child)
        if child.process.returncode != 0:
            # Ctrl-C also reaches a child that has no process group of its own yet.
            self._pause(0.05, except_for=child)
            raise self._failure(child)
        self._children.forget(child)

    def _start_server(self, settings: dict[str, str], web: socket.socket) -> None:
        self._say(f"Starting the web server on {self._url}")
        server = Program(
            name="server",
            command=[
                *(sys.executable, "-m", "gunicorn", "controlplane.wsgi:application"),
                *("--bind", f"fd://{web.fileno()}", "--no-control-socket"),
                *("--worker-class", "gthread", "--workers", "2", "--threads", "8", "--graceful-timeout", "3"),
                *self._reload_arguments(),
            ],
            stage=Stage.SERVER,
            environment={**self._base, **settings},
            descriptors=[web.fileno()],
        )
        self._children.start(server)
        self._wait_for("the web server", web.getsockname()[1], "/health")

    def _reload_arguments(self) -> Iterator[str]:
        if self._options.reload:
            yield "--reload"
            # gunicorn watches modules. A process keeps the templates that it has read.
            for template in sorted((self._options.folder / "templates").rglob("*.html")):
                yield f"--reload-extra-file={template}"

    def _start_agents(self, credentials: dict[str, str]) -> None:
        for number in range(1, self._options.agents + 1):
            name = f"agent-{number}"
            self._say(f"Starting {name}")
            settings = agent_settings(
                self._state.agents / str(number), url=self._url, token=credentials["enrolment_token"], name=name
            )
            # The address may differ from the one at enrolment, so each start passes it.
            self._children.start(
                Program(
                    name=name,
                    command=[sys.executable, "-m", "agent"],
                    stage=Stage.AGENT,
                    environment={**self._base, **settings},
                )
            )

    def _manage(self, name: str, settings: dict[str, str], *arguments: str) -> Program:
        return Program(
            name=name,
            command=[sys.executable, "manage.py", *arguments],
            stage=Stage.SERVER,
            environment={**self._base, **settings, "PYTHONUNBUFFERED": "1"},
        )

    def _pause(self, seconds: float, *, except_for: Child | None = None) -> None:
        """Wait a little. Raises _Stopped after a signal, LocalError when a process ended that cannot be restarted."""
        time.sleep(seconds)
        if self._stop_signal is not None:
            raise _Stopped
        for child in self._children.ended():
            if child is except_for:
                continue
            if not child.note_end():
                raise self._failure(child)
            self._say(f"{self._end_of(child)}\nRestarting it")
            self._children.restart(child)

    def _wait_for(self, what: str, port: int, path: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port, path):
            if time.monotonic() > deadline:
                raise LocalError(f"For {_START_SECONDS} s {what} has not answered. Its log is in {self._state.output}.")
            self._pause(0.05)

    def _failure(self, child: Child) -> LocalError:
        return LocalError(self._end_of(child))

    def _end_of(self, child: Child) -> str:
        lines = "\n".join(f"    {line}" for line in self._children.last_lines(child))
        name, log = child.program.name, self._children.log(child.program)
        return f"{name} {child.describe_end()}. The end of {log}:\n{lines}"

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = signal.Signals(number)


def _listen(port: int) -> socket.socket:
    """A listening socket on loopback that a child can inherit, so the port stays ours. Raises LocalError."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise LocalError(
            f"Port {port} cannot be used: {reason}. Choose another with --port (make run PORT=…)."
        ) from error
    return listener


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


def _instructions(credentials: dict[str, Any], checkout: Checkout, output: Path) -> str:
    url = credentials["url"]
    curl = (
        f"curl -X POST -H 'Authorization: Bearer {credentials['api_token']}' '{url}/jobs?git_ref={quote(checkout.ref)}'"
    )
    return f"""
Ready.

  WARNING: pipelines run as you. A step can read and change all that you can, keys and passwords included.
  Queue only jobs whose code you trust. docs/security.md explains how to run other jobs.

  Address    {url}
  Sign in    {credentials["email"]}   {credentials["password"]}
  Logs       {output}

Queue a job that builds this checkout as committed at {checkout.ref}:

  {curl}
{_command_line(credentials, checkout)}
Ctrl-C stops everything.
"""


def _command_line(credentials: dict[str, Any], checkout: Checkout) -> str:
    """How to do the same with `hci`, where `make` has put it beside this Python."""
    hci = Path(sys.executable).with_name("hci")
    if not hci.exists():
        return ""
    return f"""
The same from the command line (docs/cli.md):

  echo {credentials["api_token"]} | {hci} login --server {credentials["url"]} --token-stdin
  {hci} run --ref {shlex.quote(checkout.ref)} --follow
"""
