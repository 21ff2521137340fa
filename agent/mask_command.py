"""``agent.pyz mask``: in a step, make a value secret for the rest of the job. It comes from standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from agent.step_door import MASK, ask, door_of_step

_PATIENCE_SECONDS = 60.0

_EPILOG = """\
As in: make-token | tee token | python3 "$HYBRID_CI_AGENT" mask

exit codes:
  0  the log shows *** in place of the value from now on
  1  the value cannot be masked: it is too short or too long, or the job masks too many
  2  this is no step of a job
  3  the agent does not answer
"""


def mask_main(arguments: Sequence[str]) -> int:
    """The command line of ``agent.pyz mask``. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="agent mask",
        description="In a step of a job: read a value from standard input, and mask it in the log from now on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    door = door_of_step()
    if door is None:
        return _fail(2, "this works only in a step of a job that an agent runs.")
    value = sys.stdin.buffer.read(MASK.most + 1).decode("utf-8", "replace")
    try:
        code, printed = ask(door, MASK, value, patience=_PATIENCE_SECONDS)
    except TimeoutError:
        return _fail(3, "the agent does not answer. Its version may not support this: update the agent.")
    except (OSError, ValueError, KeyError) as error:
        return _fail(3, f"the agent cannot be asked: {error}.")
    return _fail(code, printed) if code else 0


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"agent mask: {message}\n")
    return code
