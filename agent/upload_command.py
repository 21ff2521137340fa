"""``agent.pyz upload FILE``: in a step, add the jobs of a pipeline file to the run that the step belongs to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.step_door import UPLOAD, ask, door_of_step

# The agent tries for as long as the control plane does not answer.
_PATIENCE_SECONDS = 900.0

_EPILOG = """\
The file has the form of a pipeline file with `jobs:`. Its jobs may need jobs of the run.

exit codes:
  0  the jobs are added
  1  the file is not valid, or the control plane refuses it
  2  the file cannot be read, or this is no step of a job
  3  the agent does not answer
"""


def upload_main(arguments: Sequence[str]) -> int:
    """The command line of ``agent.pyz upload``. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="agent upload",
        description="In a step of a job: add the jobs of a file to the run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the file, or - for stdin")
    name = parser.parse_args(arguments).file
    door = door_of_step()
    if door is None:
        return _fail(2, "this works only in a step of a job that an agent runs.")
    try:
        text = _text(name)
    except (OSError, UnicodeDecodeError) as error:
        return _fail(2, f"{name} cannot be read: {error}.")
    if len(text.encode()) > UPLOAD.most:
        return _fail(1, f"{name} must have at most {UPLOAD.most // 1024} KiB.")
    try:
        code, printed = ask(door, UPLOAD, text, patience=_PATIENCE_SECONDS)
    except TimeoutError:
        return _fail(3, "the agent does not answer. Its version may not support this: update the agent.")
    except (OSError, ValueError, KeyError) as error:
        return _fail(3, f"the agent cannot be asked: {error}.")
    (sys.stderr if code else sys.stdout).write(f"{printed}\n")
    return code


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.buffer.read(UPLOAD.most + 1).decode()
    with Path(name).open("rb") as file:
        return file.read(UPLOAD.most + 1).decode()


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"agent upload: {message}\n")
    return code
