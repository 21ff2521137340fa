"""``agent.pyz token --audience NAME``: in a step, print a token by which another system knows which job this is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from agent.step_door import TOKEN, ask, door_of_step

# The agent tries for as long as the control plane does not answer.
_PATIENCE_SECONDS = 300.0

_EPILOG = """\
Standard output is the token alone, as in

  TOKEN=$(python3 "$HYBRID_CI_AGENT" token --audience sts.amazonaws.com)

It lasts 15 minutes. docs/oidc.md has what AWS, Azure, Google Cloud and Vault need.

exit codes:
  0  standard output is the token
  1  the control plane refuses it
  2  this is no step of a job
  3  the agent does not answer
"""


def token_main(arguments: Sequence[str]) -> int:
    """The command line of ``agent.pyz token``. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="agent token",
        description="In a step of a job: print an identity token, which another system accepts in place of a key.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--audience", required=True, metavar="NAME", help="the system that shall accept the token")
    audience = parser.parse_args(arguments).audience
    door = door_of_step()
    if door is None:
        return _fail(2, "this works only in a step of a job that an agent runs.")
    try:
        code, printed = ask(door, TOKEN, audience, patience=_PATIENCE_SECONDS)
    except TimeoutError:
        return _fail(3, "the agent does not answer. Its version may not support this: update the agent.")
    except (OSError, ValueError, KeyError) as error:
        return _fail(3, f"the agent cannot be asked: {error}.")
    if code:
        return _fail(code, printed)
    sys.stdout.write(f"{printed}\n")
    return 0


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"agent token: {message}\n")
    return code
