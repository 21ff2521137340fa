"""The options of an agent: by command line or environment variable."""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from agent import VERSION
from agent.protocol import MAX_SLOTS
from agent.repositories import RepositoryPattern

_DESCRIPTION = """\
Runs jobs of a hybrid CI/CD control plane on this machine (Linux or macOS; Windows is out of scope).

The first start enrols the machine with a token and saves its identity in the state directory. Later starts need neither
token nor address. The agent needs git and /bin/sh. It opens no port; it only calls the control plane.

Instead of an option, the first argument may be one of these commands; each has its own --help:
  run     take jobs, as without a command
  exec    run the jobs of a pipeline file in the current checkout, without any control plane
  check   check pipeline files
  upload  in a step: add jobs to the run that the step belongs to
"""

_EPILOG = """\
You can set every option by the environment variable in brackets; an option on the command line wins. Give the token by
variable or file: every user of the machine can read the command line.

Signals: after the first SIGTERM or SIGINT, the agent takes no more jobs and exits when its running jobs have ended. The
second signal makes it stop the jobs, report them and exit. The third makes it exit at once. The processes of jobs
always end with the agent, even after kill -9. In a systemd unit, set KillMode=mixed; otherwise systemd itself ends the
jobs' processes with the first signal.

While the control plane does not answer, the agent keeps logs and results on disk. It delivers them later, also after a
restart. When this spool is full, steps that print wait until the control plane answers again. When a log reaches the
limit that the control plane sets, the agent leaves out what follows, except for the last megabyte.

exit codes:
  0    a signal ended the agent
  1    an unexpected error or a third signal ended the agent
  2    an option is invalid, the address is missing, or the agent has neither token nor identity
  3    the control plane refuses this agent: its token or an option is invalid, its key is revoked, it is retired, or
       another machine uses its identity
  4    another agent uses the state directory
  5    this machine lacks git, or the state directory cannot be written
  130  an interrupt ended the agent before it was enrolled
"""


def options_parser() -> argparse.ArgumentParser:
    """The parser of the agent's command line."""
    parser = argparse.ArgumentParser(
        prog="agent", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=VERSION)
    enrolment = parser.add_argument_group("identity and control plane")
    _add(
        enrolment,
        "url",
        "address of the control plane, such as https://ci.example.org; may be given several times: the others are "
        "used while the first does not answer. The variable takes several, too, with spaces or commas between them",
        convert=_addresses,
        action=_Collect,
    )
    _add(enrolment, "token", "enrolment token, for the first start only")
    _add(enrolment, "token-file", "file that contains the enrolment token")
    _add(enrolment, "name", "name of the agent (default: the name of this machine)", default=_default_name())
    _add(enrolment, "region", "region that the agent belongs to (default: %(default)s)", default="default")
    _add(enrolment, "labels", "labels that jobs can ask for, such as linux,arm64,gpu", default="", convert=_words)
    work = parser.add_argument_group("running jobs")
    _add(
        work,
        "slots",
        f"number of jobs at once, up to {MAX_SLOTS} (default: the control plane decides, 1 at first)",
        convert=_slots,
    )
    _add(
        work,
        "state-dir",
        "folder for identity and spool, one for each agent (default: %(default)s)",
        default="~/.hybrid-ci-agent",
        convert=Path,
    )
    _add(
        work,
        "work-dir",
        "folder for workspaces (default: work in the state directory, which the users of --step-user cannot enter)",
        convert=Path,
    )
    _add(
        work, "mirror-dir", "folder for mirrors of repositories (default: mirrors in the state directory)", convert=Path
    )
    _add(
        work,
        "allow-repository",
        "patterns of the repositories that this agent may fetch, such as github.com/acme/* (default: all); "
        "may be given several times",
        default="",
        convert=_patterns,
        action=_Collect,
    )
    _add(
        work,
        "spool-limit",
        "MiB of undelivered log to keep on disk (default: %(default)s)",
        default="256",
        convert=_at_least_one,
    )
    _add(
        work,
        "grace",
        "seconds between TERM and KILL when a step is stopped (default: %(default)s)",
        default="5",
        convert=_seconds,
    )
    _add(
        work,
        "frozen-limit",
        "seconds after which the jobs of an agent that is frozen (SIGSTOP) are ended (default: %(default)s)",
        default="120",
        convert=_frozen_limit,
    )
    _add(
        work,
        "pass-env",
        "additional environment variables for steps, such as JAVA_HOME,PIP_*",
        default="",
        convert=_words,
    )
    _add(
        work,
        "step-user",
        "users that steps run as, one for each slot, such as ci-step-1,ci-step-2 (needs root or capabilities)",
        default="",
        convert=_words,
    )
    _add(
        work,
        "log-level",
        "level of the agent's log: debug, info, warning or error (default: %(default)s)",
        default="info",
        convert=_log_level,
    )
    return parser


def _add(
    group: argparse._ArgumentGroup,
    name: str,
    help_text: str,
    *,
    default: Optional[str] = None,
    convert: Callable[[str], Any] = str,
    action: Any = "store",
) -> None:
    """Add an option. Its default is the environment variable of its name, then `default`; `convert` parses each."""
    variable = "HYBRID_CI_" + name.upper().replace("-", "_")
    group.add_argument(
        f"--{name}",
        default=os.environ.get(variable) or default,
        type=convert,
        action=action,
        help=f"{help_text} [{variable}]",
        metavar=name.rpartition("-")[2].upper(),
    )


class _Collect(argparse.Action):
    """Collects the values of an option that may be given several times; its default does not count then."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _option: Any = None
    ) -> None:
        earlier = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(earlier if isinstance(earlier, list) else []), *values])


def _patterns(text: str) -> list[RepositoryPattern]:
    try:
        return [RepositoryPattern.parse(word) for word in _words(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _addresses(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


def _default_name() -> str:
    """The name of this machine. A dash replaces each character that the name of an agent must not have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "agent"


def _slots(text: str) -> int:
    number = _at_least_one(text)
    if number > MAX_SLOTS:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_SLOTS}")
    return number


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError("must be a number between 0 and 3600")
    return number


def _frozen_limit(text: str) -> float:
    number = _seconds(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be a number between 1 and 3600")
    return number


def _log_level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise argparse.ArgumentTypeError("must be debug, info, warning or error")
    return text.lower()
