"""``hci``: where the program begins and ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from hci import __version__, output
from hci.commands import ALL
from hci.errors import Ended, Exit, HciError
from hci.session import HciGroup, Session

_EPILOG = """
\b
Exit codes:
  0    everything went well
  1    failed: a run or job that was waited for, or the command itself
  2    the command, or what it sends, is not as it must be
  3    not found
  4    refused: not logged in, no permission, or not possible in this state
  5    the control plane cannot be reached, or does not work
  130  interrupted by Ctrl-C
`hci logs --follow` ends with the job's own exit code.

\b
Variables: HCI_SERVER, HCI_TOKEN, HCI_PROFILE, XDG_CONFIG_HOME, NO_COLOR.
"""


@click.group(
    cls=HciGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="hci")
def cli() -> None:
    """The command line of the control plane: runs, logs, deployments, agents, pipelines, secrets, the audit trail."""


for _command in ALL:
    cli.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; every error has been explained on standard error."""
    session = Session()
    try:
        try:
            cli.main(
                list(arguments) if arguments is not None else None, prog_name="hci", standalone_mode=False, obj=session
            )
        finally:
            session.close()
        sys.stdout.flush()
    except Ended as end:
        return end.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except HciError as error:
        return _explain(error)
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.BROKEN_PIPE
    except Exception as error:
        if os.environ.get("HCI_DEBUG"):
            raise
        output.notice(f"hci: internal error: {type(error).__name__}. HCI_DEBUG=1 shows where.")
        return Exit.FAILED
    return Exit.OK


def _explain(error: HciError) -> int:
    # Where standard error cannot be written either, only the exit code is left.
    with suppress(HciError, Ended):
        output.notice(f"hci: {error.message}")
        for hint in error.hints:
            output.notice(f"  {hint}")
    return error.exit_code


def main() -> None:
    """The program `hci`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The caller has closed it.
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            # A terminal of few characters shows “?” for others.
            stream.reconfigure(errors="replace")
    code = run()
    try:
        sys.stdout.flush()
    except OSError:
        code = code or Exit.BROKEN_PIPE
    if code == Exit.BROKEN_PIPE:
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(code))
