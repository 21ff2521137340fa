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
from agent.adoption import Adoption
from agent.bundle import write_guard_program
from agent.cgroups import ControlGroups
from agent.client import Client
from agent.concealment import forbid_inspection, inherited_token, start_again_without_token
from agent.container import LABEL as CONTAINER_LABEL
from agent.container import Engines
from agent.enrolment import enrol
from agent.environment import container_environment, engine_environment, git_environment, step_environment
from agent.errors import AgentError, MachineUnfit, UsageError
from agent.identity import identity_load
from agent.job_context import JobContext
from agent.mirror import Mirrors
from agent.process import Launcher
from agent.processes import kill_marked
from agent.protocol import MAX_SLOTS, ControlPlane
from agent.repositories import RepositoryPattern
from agent.spool import Spool
from agent.state import StateDirectory
from agent.step_users import StepUsers
from agent.trash import empty_work_dir
from agent.worker import Agent

logger = logging.getLogger(__name__)

_INTERRUPTED = 130

_DESCRIPTION = """\
Runs jobs of a hybrid CI/CD control plane on this machine (Linux or macOS; Windows is out of scope).

The first start enrols the machine with a token and saves its identity in the state directory. Later starts need neither
token nor address. The agent needs git and /bin/sh. It opens no port; it only calls the control plane.
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


def agent_main(arguments: list[str]) -> int:
    """Run the agent with these command-line arguments. Returns its exit code."""
    token = inherited_token()
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        if options.token:
            # Steps and other users could read it for as long as the agent runs.
            start_again_without_token(arguments, str(options.token))
        options.token = token
        forbid_inspection()
        _run(options)
    except AgentError as error:
        logger.error("%s", error)
        return error.exit_code
    except OSError as error:
        logger.error("The agent cannot use its files: %s. Check the disk and the folder of --state-dir.", error)
        return MachineUnfit.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    logger.info("the agent has ended")
    return 0


def _run(options: argparse.Namespace) -> None:
    if shutil.which("git") is None:
        raise MachineUnfit("git is not on this machine's PATH. Install git: every job needs it.")
    state = StateDirectory(options.state_dir.expanduser())
    try:
        groups = ControlGroups.find(state.marker)
        killed = groups.end_all() + len(kill_marked(state.marker))
        if killed:
            logger.warning("the agent killed %d processes that its previous run left behind", killed)
        write_guard_program(state.program)
        agent = _agent(options, state, groups)
        agent.run()
    finally:
        state.close()


def _agent(options: argparse.Namespace, state: StateDirectory, groups: ControlGroups) -> Agent:
    identity = identity_load(state.identity)
    url = options.url or (identity.url if identity else None)
    if url is None:
        raise UsageError("The address of the control plane is missing. Give it with --url or HYBRID_CI_URL.")
    try:
        client = Client(url)
    except ValueError as error:
        raise UsageError(f"The address of the control plane is invalid: {error}.") from error
    if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        logger.warning("the control plane's address has no TLS: others on the network can read the jobs; use https")
    plane = ControlPlane(client)
    engines = Engines(engine_environment(os.environ), used=state.containers, owner=state.marker[:12])
    engines.clean()
    if identity is None:
        token = _token(options)
        if token is None:
            raise UsageError(
                f"This machine is not enrolled ({state.identity} is missing). "
                "Give an enrolment token with HYBRID_CI_TOKEN, --token-file or --token."
            )
        identity = enrol(
            plane,
            state,
            token=token,
            name=options.name,
            region=options.region,
            labels=list(dict.fromkeys([*options.labels, *([CONTAINER_LABEL] if engines.find() else [])])),
            slots=options.slots or 1,
        )
    client.identity = identity
    adoption = Adoption()
    adoption.begin()
    work_dir = _own_work_dir(options.work_dir or state.path / "work", state.marker)
    step_users = _step_users(options, work_dir, state)
    context = JobContext(
        plane=plane,
        spool=Spool(state.spool, options.spool_limit * 1024 * 1024),
        launcher=Launcher(
            program=state.program,
            marker=state.marker,
            grace=options.grace,
            frozen_limit=options.frozen_limit,
            groups=groups,
            adoption=adoption,
        ),
        work_dir=work_dir,
        mirrors=Mirrors(_own_folder(options.mirror_dir or state.path / "mirrors", state.marker)),
        repositories=options.allow_repository,
        step_env=step_environment(os.environ, options.pass_env),
        git_env=git_environment(os.environ),
        agent_name=options.name,
        step_users=step_users,
        engines=engines,
        container_env=container_environment(os.environ, options.pass_env),
    )
    logger.info("agent %s takes jobs from %s", identity.agent_id, client.url)
    return Agent(client=client, plane=plane, context=context, state=state, slots=options.slots)


def _own_work_dir(parent: Path, marker: str) -> Path:
    """Make the folder for the workspaces of this agent alone. The workspaces of an earlier run are removed."""
    path = _own_folder(parent, marker)
    empty_work_dir(path)
    return path


def _own_folder(parent: Path, marker: str) -> Path:
    """The folder in `parent` that belongs to this agent alone."""
    return parent.expanduser().resolve() / f"agent-{marker[:12]}"


def _step_users(options: argparse.Namespace, work_dir: Path, state: StateDirectory) -> StepUsers:
    """The users of --step-user, checked. Raises UsageError."""
    users = StepUsers.find(options.step_user)
    if users.count == 0:
        if os.geteuid() == 0:
            logger.warning("the agent is root, and so are its steps: start it as another user, or use --step-user")
        return users
    if options.slots is not None and options.slots > users.count:
        raise UsageError(f"--slots must be at most {users.count}, the number of users that --step-user names.")
    # Users may enter the folder of a job whose name they know, but not list the jobs.
    work_dir.chmod(0o711)
    users.check(work_dir=work_dir, state_dir=state.path)
    return users


def _token(options: argparse.Namespace) -> Optional[str]:
    if options.token:
        return str(options.token).strip()
    if options.token_file:
        try:
            return Path(options.token_file).read_text().strip()
        except OSError as error:
            raise UsageError(f"The agent cannot read the file of --token-file: {error}.") from error
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=VERSION)
    enrolment = parser.add_argument_group("identity and control plane")
    _add(enrolment, "url", "address of the control plane, such as https://ci.example.org")
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
