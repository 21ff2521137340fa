"""The agent as a program: it puts its parts together, runs, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from agent.adoption import Adoption
from agent.cgroups import ControlGroups
from agent.client import Client
from agent.concealment import forbid_inspection, inherited_token, start_again_without_token
from agent.container import LABEL as CONTAINER_LABEL
from agent.container import Engines
from agent.enrolment import enrol
from agent.environment import container_environment, engine_environment, git_environment, step_environment
from agent.errors import AgentError, MachineUnfit, UsageError
from agent.guard_program import write_guard_program
from agent.identity import Identity, identity_load
from agent.job_context import JobContext, StepContext
from agent.mirror import Mirrors
from agent.options import options_parser
from agent.private_folder import left_overs_remove, private_folder
from agent.process import Launcher
from agent.processes import kill_marked
from agent.protocol import ControlPlane
from agent.removal import remove_folder
from agent.spool import Spool
from agent.state import StateDirectory
from agent.step_users import StepUsers
from agent.store import Archives
from agent.trash import empty_work_dir
from agent.worker import Agent

logger = logging.getLogger(__name__)

_INTERRUPTED = 130


def agent_main(arguments: list[str]) -> int:
    """Run the agent with these command-line arguments. Returns its exit code."""
    token = inherited_token()
    options = options_parser().parse_args(arguments)
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
        agent, private_dir = _agent(options, state, groups)
        try:
            agent.run()
        finally:
            if private_dir is not None:
                remove_folder(private_dir)
    finally:
        state.close()


def _agent(options: argparse.Namespace, state: StateDirectory, groups: ControlGroups) -> tuple[Agent, Optional[Path]]:
    """The agent, and the folder of its own in memory."""
    identity = identity_load(state.identity)
    client = _client(options.url, identity)
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
    private_dir = private_folder(f"hybrid-ci-{os.geteuid()}-{state.marker[:12]}", others_enter=step_users.count > 0)
    if private_dir is not None:
        left_overs_remove(private_dir)
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
        git_env=git_environment(os.environ),
        agent_name=options.name,
        step_users=step_users,
        steps=StepContext(
            step_env=step_environment(os.environ, options.pass_env),
            container_env=container_environment(os.environ, options.pass_env),
            engines=engines,
        ),
        archives=Archives(work_dir.with_name(f"{work_dir.name}.archives")),
        private_dir=private_dir,
    )
    main, *fallbacks = client.addresses.urls
    or_from = f", or from {', '.join(fallbacks)} while that does not answer" if fallbacks else ""
    logger.info("agent %s takes jobs from %s%s", identity.agent_id, main, or_from)
    return Agent(client=client, plane=plane, context=context, state=state, slots=options.slots), private_dir


def _client(given: Optional[list[str]], identity: Optional[Identity]) -> Client:
    """A client of the addresses that are given, or else of those of the enrolment. Raises UsageError."""
    urls = given or (identity.urls if identity else None)
    if not urls:
        raise UsageError("The address of the control plane is missing. Give it with --url or HYBRID_CI_URL.")
    try:
        client = Client(*urls)
    except ValueError as error:
        raise UsageError(f"The address of the control plane is invalid: {error}.") from error
    for parts in map(urlsplit, client.addresses.urls):
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            logger.warning(
                "the control plane's address %s has no TLS: others on the network can read the jobs; use https",
                parts.geturl(),
            )
    if identity is not None and client.addresses.urls != [identity.url]:
        client.addresses.check_first()
    return client


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
