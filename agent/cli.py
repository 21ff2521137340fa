"""The command line: arguments, environment variables, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from agent import VERSION
from agent.bundle import agent_bundle
from agent.client import Client
from agent.enrolment import enrol
from agent.environment import git_environment, step_environment
from agent.errors import AgentError, MachineUnfit, UsageError
from agent.files import remove_folder, write_private
from agent.identity import identity_load
from agent.job import Surroundings
from agent.process import Launcher
from agent.processes import kill_marked
from agent.protocol import ControlPlane
from agent.spool import Spool
from agent.state import StateDirectory
from agent.worker import Agent

logger = logging.getLogger(__name__)

_INTERRUPTED = 130

_DESCRIPTION = """\
Runs jobs of a hybrid CI/CD control plane on this machine (Linux or macOS; Windows is out of scope).

The first start enrols the machine with a token and keeps its identity in the state directory; later starts need neither
token nor address. The agent needs git and /bin/sh. It takes no connections; it only calls the control plane.
"""

_EPILOG = """\
Every option can be given by the environment variable in brackets; an option goes before. Give the token by variable or
file: what stands on a command line can be read by every user of the machine.

Signals: the first SIGTERM or SIGINT lets running jobs finish, then the agent leaves; the second stops them, reports
that and leaves; the third leaves at once. Processes of jobs never outlive the agent, kill -9 included. A systemd unit
needs KillMode=mixed, or else systemd itself ends the jobs' processes with the first signal.

While the control plane is away, logs and results are kept on disk and delivered when it is back, also by a later
start. When the spool is full, steps wait to print until it is back.

exit codes:
  0    left after a signal
  1    something unexpected went wrong
  2    wrong usage: no address, or neither token nor identity
  3    the control plane refuses this agent: wrong token, key revoked, agent retired
  4    another agent uses the state directory
  5    this machine lacks git
  130  interrupted before the agent was enrolled
"""


def agent_main(arguments: list[str]) -> int:
    """Run the agent; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        _run(options)
    except AgentError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    logger.info("left")
    return 0


def _run(options: argparse.Namespace) -> None:
    if shutil.which("git") is None:
        raise MachineUnfit("There is no git on this machine's PATH, and no job can do without.")
    state = StateDirectory(options.state_dir.expanduser())
    try:
        killed = kill_marked(state.marker)
        if killed:
            logger.warning("killed %d processes that an earlier run of this agent left", len(killed))
        write_private(state.bundle, agent_bundle())
        agent = _agent(options, state)
        agent.run()
    finally:
        state.close()


def _agent(options: argparse.Namespace, state: StateDirectory) -> Agent:
    identity = identity_load(state.identity)
    url = options.url or (identity.url if identity else None)
    if url is None:
        raise UsageError("No address: give --url or HYBRID_CI_URL.")
    try:
        client = Client(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error
    if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        logger.warning("the control plane is called without TLS: whoever is in between can read the jobs")
    plane = ControlPlane(client)
    if identity is None:
        token = _token(options)
        if token is None:
            raise UsageError(
                f"This machine is not enrolled ({state.identity} is missing): give an enrolment token "
                "by HYBRID_CI_TOKEN, --token-file or --token."
            )
        identity = enrol(
            plane,
            state,
            token=token,
            name=options.name,
            region=options.region,
            labels=options.labels,
            slots=options.slots or 1,
        )
    client.identity = identity
    work_dir = _own_work_dir(options.work_dir or state.path / "work", state.marker)
    around = Surroundings(
        plane=plane,
        spool=Spool(state.spool, options.spool_limit * 1024 * 1024),
        launcher=Launcher(bundle=state.bundle, marker=state.marker, grace=options.grace),
        work_dir=work_dir,
        step_env=step_environment(os.environ, options.pass_env),
        git_env=git_environment(os.environ),
        agent_name=options.name,
    )
    logger.info("agent %s works for %s", identity.agent_id, client.url)
    return Agent(client=client, plane=plane, around=around, state=state, slots=options.slots)


def _own_work_dir(parent: Path, marker: str) -> Path:
    """A folder for this agent's workspaces alone, emptied of those of an earlier run."""
    path = parent.expanduser().resolve() / f"agent-{marker[:12]}"
    remove_folder(path)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _token(options: argparse.Namespace) -> Optional[str]:
    if options.token:
        return str(options.token).strip()
    if options.token_file:
        try:
            return Path(options.token_file).read_text().strip()
        except OSError as error:
            raise UsageError(f"--token-file: {error}") from error
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=VERSION)
    enrolment = parser.add_argument_group("who it is and whom it works for")
    _add(enrolment, "url", "address of the control plane, such as https://ci.example.org")
    _add(enrolment, "token", "enrolment token, for the first start only")
    _add(enrolment, "token-file", "file that holds the enrolment token")
    _add(enrolment, "name", "name of the agent (default: the host's name)", default=_default_name())
    _add(enrolment, "region", "region that the agent counts to (default: %(default)s)", default="default")
    _add(enrolment, "labels", "what this machine offers, such as linux,arm64,gpu", default="", convert=_words)
    work = parser.add_argument_group("how it works")
    _add(work, "slots", "jobs at once, up to 64 (default: what the control plane says, 1 at first)", convert=_slots)
    _add(
        work,
        "state-dir",
        "where identity and spool are kept; one for each agent (default: %(default)s)",
        default="~/.hybrid-ci-agent",
        convert=Path,
    )
    _add(work, "work-dir", "where workspaces are made (default: work in the state directory)", convert=Path)
    _add(
        work,
        "spool-limit",
        "MiB of undelivered log kept on disk (default: %(default)s)",
        default="256",
        convert=_at_least_one,
    )
    _add(work, "grace", "seconds between TERM and KILL (default: %(default)s)", default="5", convert=_seconds)
    _add(work, "pass-env", "more environment variables for steps, such as JAVA_HOME,PIP_*", default="", convert=_words)
    _add(work, "log-level", "debug, info, warning or error (default: %(default)s)", default="info", convert=_log_level)
    return parser


def _add(
    group: argparse._ArgumentGroup,
    name: str,
    help_text: str,
    *,
    default: Optional[str] = None,
    convert: Callable[[str], Any] = str,
) -> None:
    """An option whose default is the environment variable of its name, then `default`; both go through `convert`."""
    variable = "HYBRID_CI_" + name.upper().replace("-", "_")
    group.add_argument(
        f"--{name}",
        default=os.environ.get(variable) or default,
        type=convert,
        help=f"{help_text} [{variable}]",
        metavar=name.rpartition("-")[2].upper(),
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _default_name() -> str:
    """The host's name, without the characters that a name must not have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "agent"


def _slots(text: str) -> int:
    number = _at_least_one(text)
    if number > 64:
        raise argparse.ArgumentTypeError("must be at most 64")
    return number


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError("must be between 0 and 3600")
    return number


def _log_level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise argparse.ArgumentTypeError("must be debug, info, warning or error")
    return text.lower()
