"""The small process that supervises the commands of one attempt and all processes that they start.

The agent starts one guard for an attempt. The guard runs the commands that the agent asks for, one after another, and
reports each exit code. On Linux the guard is a "child subreaper": a process that a command leaves behind becomes the
guard's child, even if it forked twice, called setsid or cleared its environment. So no process escapes. When a command
has ended, the guard kills the remaining processes before it reports the exit code.

Requests come on standard input, reports go to a pipe of their own, and the commands write to the guard's standard
output themselves. All messages are frames. The end of the input means that the agent is gone, for example after
kill -9. Then the guard kills all processes and ends. While a command runs, the agent confirms regularly that it runs
itself. A guard that hears nothing for some time knows that the agent is frozen, and kills the command's processes: the
control plane has given the job to another agent by then.

The guard starts for each job, so it imports only what is cheap: no json, no subprocess, no typing.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
import time

from agent import processes
from agent.privileges import become, forbid_core_dumps, forbid_inspection, keep_capabilities_from_programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

# The kinds of frames: the agent asks the guard to run a command or to stop it, or confirms that the agent runs. The
# guard reports the command's exit code, or that it has killed the command since the agent was silent.
RUN = b"R"
STOP = b"S"
CONFIRM = b"C"
ENDED = b"E"
ABANDONED = b"A"
# The exit code of a command that cannot be started, as in a shell.
CANNOT_START = 126

_HEADER_BYTES = 9
# How long the guard tries to kill processes; one in an uninterruptible call may never end.
_KILL_LIMIT_SECONDS = 10


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One message: its kind in one byte, the length of the payload in 8 hexadecimal digits, the payload."""
    return kind + b"%08x" % len(payload) + payload


class Frames:
    """Takes frames out of the bytes that arrive, in order."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        """Add bytes as they were read."""
        self._data += data

    def next(self) -> Optional[tuple[bytes, bytes]]:
        """The kind and payload of the next complete frame, or None. Raises ValueError if the bytes are no frame."""
        if len(self._data) < _HEADER_BYTES:
            return None
        end = _HEADER_BYTES + int(self._data[1:_HEADER_BYTES], 16)
        if len(self._data) < end:
            return None
        found = self._data[:1], self._data[_HEADER_BYTES:end]
        self._data = self._data[end:]
        return found


def run_request(
    *,
    command: list[str],
    cwd: str,
    env: dict[str, str],
    grace: float,
    silence: float,
    user: Optional[tuple[int, int, tuple[int, ...]]] = None,
    secret: bool = False,
) -> bytes:
    """The frame that asks a guard to run `command` in the folder `cwd`.

    `grace` is the time in seconds between TERM and KILL, `silence` that after which the agent counts as frozen. `user`
    has the numbers of the user to run as, of its main group and of all its groups; None means the agent's own user.
    With `secret`, `env` has secret values: no other process may read them from the guard, and no core dump has them.
    """
    # The guard may run under another locale, so it gets bytes. Agent and guard are the same interpreter.
    document = {
        "command": [os.fsencode(word) for word in command],
        "cwd": os.fsencode(cwd),
        "env": {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
        "grace": grace,
        "silence": silence,
        "user": user,
        "secret": secret,
    }
    return frame(RUN, marshal.dumps(document))


def guard_main(reports: int) -> int:
    """Run the commands that standard input asks for, until it ends. `reports` is the descriptor for exit codes."""
    os.set_inheritable(reports, False)
    processes.become_subreaper()
    guard = _Guard(_wake_on_signals())
    while True:
        request = guard.next_request()
        if request is None:
            return 1 if guard.left_processes else 0
        kind, payload = request
        if kind != RUN:
            continue  # The command ended before the request to stop it arrived.
        document = marshal.loads(payload)  # noqa: S302 — the agent wrote it
        # It may have secrets, which are needed no longer than the command takes to start.
        del request, payload
        code = guard.run(document)
        try:
            os.write(reports, frame(ABANDONED if guard.agent_is_frozen else ENDED, b"%d" % code))
        except BrokenPipeError:
            return 1 if guard.left_processes else 0


def _wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends. TERM, INT and HUP do not end a guard; the agent does."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # The command would inherit SIG_IGN, so this is a handler that does nothing.
        signal.signal(number, lambda *_: None)
    return read


class _Guard:
    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._frames = Frames()
        self._agent_is_gone = False
        self._child = 0
        self._code: Optional[int] = None
        self._kill_at: Optional[float] = None
        self._grace = 0.0
        self._silence = _Silence(0.0)
        # Whether the agent was silent for too long during the last command.
        self.agent_is_frozen = False
        # Whether processes of a command could not be killed in time.
        self.left_processes = False

    def next_request(self) -> Optional[tuple[bytes, bytes]]:
        """Wait for the agent's next request. Returns None when the agent is gone."""
        while not self._agent_is_gone:
            request = self._frames.next()
            if request is not None:
                return request
            self._read()
        return None

    def run(self, request: dict[str, Any]) -> int:
        """Run one command, then kill its remaining processes. Returns its exit code as in a shell.

        The request is empty from the command's start on.
        """
        self._code = self._kill_at = None
        self._grace = request["grace"]
        self._silence = _Silence(request["silence"])
        self.agent_is_frozen = False
        if request["secret"]:
            forbid_inspection()
        try:
            self._child = _start(request)
        except OSError as error:
            _say_cannot_start(request, error)
            return CANNOT_START
        finally:
            request.clear()
        # A request to stop the command may have arrived together with the one to run it.
        self._handle_messages()
        while not self._is_over():
            if not self._wait():
                break
        self._kill_all()
        code = -signal.SIGKILL if self._code is None else self._code
        return code if code >= 0 else 128 - code

    def _wait(self) -> bool:
        """Wait for the end of a child or a message of the agent. Returns False if the agent is gone or frozen."""
        timeout = self._silence.tick
        if self._kill_at is not None:
            timeout = max(0.0, min(0.05, self._kill_at - time.monotonic()))
        ready, _, _ = select.select([0, self._wake], [], [], timeout)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if 0 not in ready:
            self.agent_is_frozen = self._silence.is_too_long()
            return not self.agent_is_frozen
        self._silence.end()
        self._read()
        self._handle_messages()
        return not self._agent_is_gone

    def _read(self) -> None:
        data = os.read(0, 65536)
        self._frames.add(data)
        self._agent_is_gone = not data

    def _handle_messages(self) -> None:
        while (request := self._frames.next()) is not None:
            if request[0] == STOP and self._kill_at is None:
                self._kill_at = time.monotonic() + self._grace
                for process in self._remaining():
                    processes.send_signal(process, signal.SIGTERM)

    def _is_over(self) -> bool:
        childless = self._reap()
        if self._kill_at is None:
            return self._code is not None
        # After a stop request, the processes that the command has started get the grace period to clean up, too.
        return childless or time.monotonic() >= self._kill_at or not self._remaining()

    def _reap(self) -> bool:
        """Reap all children that have ended, and keep the command's exit code.

        Returns whether certainly no process remains: a subreaper without children has no descendants at all.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return sys.platform == "linux"
            if pid == 0:
                return False
            if pid == self._child:
                self._code = os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        deadline = time.monotonic() + _KILL_LIMIT_SECONDS
        while not self._reap():
            remaining = self._remaining()
            if not remaining:
                break
            if time.monotonic() > deadline:
                self.left_processes = True
                break
            for process in remaining:
                processes.send_signal(process, signal.SIGKILL)
            time.sleep(0.005)

    def _remaining(self) -> list[processes.Process]:
        table = processes.process_table()
        remaining = processes.descendants([os.getpid()], table)
        if sys.platform != "linux":
            # Without a subreaper, only the marker finds processes that are no longer descendants.
            remaining += processes.marked(os.environ[processes.MARKER_VARIABLE], table)
        return remaining


class _Silence:
    """How long the agent has said nothing, in time during which this process ran itself.

    After the machine was suspended, all its processes go on at once. So a long time between two looks says nothing
    about the agent.
    """

    def __init__(self, limit: float) -> None:
        """`limit` is in seconds."""
        self._limit = limit
        self.tick = limit / 8
        self.end()

    def end(self) -> None:
        """Count from now on: the agent has said something."""
        self._lasted = 0.0
        self._looked_at = time.monotonic()

    def is_too_long(self) -> bool:
        """Whether the silence has reached the limit. Must be called at least once in each `tick`."""
        now = time.monotonic()
        self._lasted += min(now - self._looked_at, 2 * self.tick)
        self._looked_at = now
        return self._lasted >= self._limit


def _signals_restore() -> None:
    """Ignore no signal: Python ignores some, and a shell some more in what it starts by `nohup` or with `&`."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _start(request: dict[str, Any]) -> int:
    """Start the command in a session of its own. Returns its process number. Raises OSError if there is no process."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.chdir(request["cwd"])
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(1, 2)
            _signals_restore()
            if request["secret"]:
                forbid_core_dumps()
            if request["user"] is None:
                keep_capabilities_from_programs()
            else:
                become(*request["user"])
            os.execvpe(request["command"][0], request["command"], request["env"])  # noqa: S606
        except (OSError, ValueError) as error:
            _say_cannot_start(request, error)
        finally:
            os._exit(CANNOT_START)
    return child


def _say_cannot_start(request: dict[str, Any], error: Exception) -> None:
    program = os.fsdecode(request["command"][0])
    os.write(1, f"cannot start {program}: {error}\n".encode(errors="replace"))
