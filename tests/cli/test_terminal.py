"""The program as a process: at a terminal, in a pipe, and interrupted."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cli.conftest import Scripted, answer
from tests.clients import Client
from tests.signals import ctrl_c_obeyed
from tests.signing import AgentClient

SOURCE = Path(__file__).parents[2] / "cli" / "src"
HCI = [sys.executable, "-m", "hci"]


@contextmanager
def started(arguments: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The program, which does not outlive the block: a test that fails does not wait for it."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm"}
    with ctrl_c_obeyed():
        program = subprocess.Popen([*HCI, *arguments], env=environment, **options)
    with program:
        try:
            yield program
        finally:
            program.kill()


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """What the terminal shows, until this text or the end of the program."""
    shown = b""
    while wanted not in shown:
        try:
            block = os.read(descriptor, 65536)
        except OSError:
            break
        if not block:
            break
        shown += block
    return shown


def test_at_a_terminal_a_token_is_asked_for_without_echo_and_logs_keep_their_colours(
    server: str, operator: Client, agent: AgentClient, make_job: Callable[..., str]
) -> None:
    master, slave = pty.openpty()
    streams = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
    with started(["login", "--paste", "--server", server], **streams) as program:
        shown = read_until(master, b"Token: ")
        assert f"{server}/account/tokens".encode() in shown
        os.write(master, f"{operator.token}\n".encode())
        shown += read_until(master, b"Logged in")
        assert program.wait(timeout=20) == 0
    assert str(operator.token).encode() not in shown

    job = make_job()
    assignment = agent.take()
    agent.log(assignment, 0, b"\x1b[32mgreen\x1b[0m\x1b[2J\x1b]0;title\x07\n")
    agent.finish(assignment, log_chunks=1, exit_code=9)
    with started(["logs", "-f", job], **streams) as program:
        shown = read_until(master, b"exit code 9")
        assert program.wait(timeout=20) == 9
    os.close(slave)
    os.close(master)
    assert b"\x1b[32mgreen\x1b[0m\r\n" in shown
    assert b"\x1b[2J" not in shown
    assert b"\x1b]" not in shown


def test_a_reader_that_goes_away_ends_the_program_in_silence(scripted: Scripted) -> None:
    def endless(request: bytes) -> bytes:
        offset = int(request.split(b"offset=")[1].split()[0])
        return answer((b"x" * 99 + b"\n") * 1000, X_Next_Offset=str(offset + 100_000), X_Log_Complete="false")

    scripted.answers = [endless]
    read, write = os.pipe()
    with started(["logs", "-f", "j"], stdout=write, stderr=subprocess.PIPE) as program:
        os.close(write)
        os.read(read, 100)
        os.close(read)
        _, errors = program.communicate(timeout=20)
    assert (program.returncode, errors) == (141, b"")


def test_ctrl_c_ends_the_following_with_a_word_and_without_a_traceback(scripted: Scripted) -> None:
    waiting = answer({"job_id": "j", "status": "queued", "waiting": {"message": "No agent."}})
    scripted.answers = [
        lambda request: waiting if b"/log" not in request else answer(X_Next_Offset="0", X_Log_Complete="false")
    ]
    with started(["logs", "-f", "j"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == b"No agent.\n"
        time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=20)
    assert program.returncode == 130
    assert errors.splitlines()[-1] == b"The job goes on. To cancel it: hci cancel j"
    assert b"Traceback" not in errors


def test_a_full_disk_and_closed_streams_are_no_tracebacks(scripted: Scripted) -> None:
    scripted.answers = [answer({"runs": [], "next_cursor": None})]
    with (
        Path("/dev/full").open("wb") as full,
        started(["runs", "--json"], stdout=full, stderr=subprocess.PIPE) as program,
    ):
        _, errors = program.communicate(timeout=20)
    assert (program.returncode, errors) == (1, b"hci: The output cannot be written: No space left on device.\n")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "ascii"}
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m hci runs >&- 2>&-"], env=environment, timeout=20, check=False
    )
    assert closed.returncode == 0
