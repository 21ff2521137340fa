"""Keep the agent's secrets from the steps that it runs, as far as the operating system allows it.

Linux shows the arguments and the environment with which a process began under /proc, and nothing that the process does
later changes them. So an agent that was started with an enrolment token there starts itself again without it, before it
imports the rest of the program. So this module imports only what is cheap.
"""

from __future__ import annotations

import os
import sys

from agent.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

TOKEN_OPTION = "--token"
TOKEN_VARIABLE = "HYBRID_CI_TOKEN"
_DESCRIPTOR_VARIABLE = "HYBRID_CI_TOKEN_FD"
_PR_SET_DUMPABLE = 4
# A pipe takes this many bytes before anything reads it.
_LIMIT_BYTES = 4096


def given_token(arguments: list[str]) -> Optional[str]:
    """The token in the agent's arguments or else in its environment, or None."""
    token = os.environ.get(TOKEN_VARIABLE)
    following = iter(arguments)
    for argument in following:
        if argument == TOKEN_OPTION:
            token = next(following, None)
        elif argument.startswith(f"{TOKEN_OPTION}="):
            token = argument[len(TOKEN_OPTION) + 1 :]
    return token or None


def start_again_without_token(arguments: list[str], token: str) -> None:
    """Replace this process by the same program without the token in its arguments and environment.

    `arguments` are those of the agent. The process keeps its number, and the token comes through a pipe to
    `inherited_token`. Raises UsageError if the token is longer than any token is, and OSError.
    """
    data = token.encode()
    if len(data) > _LIMIT_BYTES:
        raise UsageError("The enrolment token is invalid: it is too long.")
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    os.set_inheritable(reading, True)
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    environment[_DESCRIPTOR_VARIABLE] = str(reading)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [*_program(len(arguments)), *_without_token(arguments)], environment)  # noqa: S606


def inherited_token() -> Optional[str]:
    """The token that `start_again_without_token` passed on, or None. It can be read once."""
    descriptor = os.environ.pop(_DESCRIPTOR_VARIABLE, None)
    if descriptor is None:
        return None
    with os.fdopen(int(descriptor), "rb") as pipe:
        return pipe.read().decode()


def forbid_inspection() -> None:
    """Forbid other processes of this user to read this process's memory, environment and open files (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _program(arguments: int) -> list[str]:
    """How Python was started, up to the last `arguments` words, which the program sees as its own."""
    # Python has it as sys.orig_argv from 3.10 on.
    words = list(getattr(sys, "orig_argv", []))
    if not words:
        from pathlib import Path

        if Path("/proc/self/cmdline").exists():
            words = [os.fsdecode(word) for word in Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]]
    if not words:
        import subprocess

        return [sys.executable, *subprocess._args_from_interpreter_flags(), sys.argv[0]]  # type: ignore[attr-defined]
    return [sys.executable, *words[1 : len(words) - arguments]]


def _without_token(arguments: list[str]) -> list[str]:
    kept = []
    following = iter(arguments)
    for argument in following:
        if argument == TOKEN_OPTION:
            next(following, None)
        elif not argument.startswith(f"{TOKEN_OPTION}="):
            kept.append(argument)
    return kept
