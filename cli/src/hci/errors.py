"""What can go wrong, each with the exit code of the program."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes. `hci logs --follow` ends with the job's own exit code in place of FAILED."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class HciError(Exception):
    """An error that is explained to the user in sentences, without a traceback."""

    exit_code: int = Exit.FAILED

    def __init__(self, message: str, *, hints: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints


class UsageProblem(HciError):
    exit_code = Exit.USAGE


class NotThere(HciError):
    exit_code = Exit.NOT_FOUND


class Refused(HciError):
    exit_code = Exit.REFUSED


class Unreachable(HciError):
    """There is no answer."""

    exit_code = Exit.UNREACHABLE


class BadAnswer(HciError):
    """There is an answer, and the control plane would not give it."""

    exit_code = Exit.UNREACHABLE


class Ended(Exception):
    """The command has said everything, and the program ends with this code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
