"""Bring what a job runs into its workspace: the repository, its submodules, and the pipeline file in it."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

from agent.attempt import ABANDON, STOP, Attempt
from agent.checkout import GIT_ENVIRONMENT, Checkout, CheckoutFailed, Tools, checkout, url_without_credentials
from agent.client import GivenUp, Refused
from agent.commit_facts import FactFinder
from agent.delivery import log_refusal
from agent.fetch_access import NO_ACCESS, FetchAccess
from agent.files import read_regular
from agent.health import work_dir_fault
from agent.job_commands import JobCommands
from agent.job_context import JobContext
from agent.job_ends import TIMED_OUT, Interrupted, JobFailed
from agent.job_folder import JobFolder
from agent.log_stream import LogStream
from agent.log_text import one_line, seconds_since
from agent.machine import MachineFailed, git_fault, git_path
from agent.protocol import CommitFacts, Definition, JobDetails, Wants
from agent.refusals import ABOUT_DEFINITION, SECRETS_MISSING
from agent.repositories import repository_is_allowed
from agent.submodules import submodules_fetch

# The checkout has a time limit even if the job has none: a server that never answers would block the slot for ever.
CHECKOUT_LIMIT_SECONDS = 1800
_DEFINITION_LIMIT_BYTES = 512 * 1024
_GIT_OUTPUT_LIMIT_BYTES = 64 * 1024
_KILLED = 128 + signal.SIGKILL
_TERMINATED = 128 + signal.SIGTERM
# What the control plane wants to know of a commit must not keep a job waiting for long.
_FACTS_LIMIT_SECONDS = 300
_MOST_QUESTIONS = 3


class JobSource:
    """Fetches the source of one attempt into `workspace`, by git that `commands` runs. Its progress goes to `stream`.

    All methods raise Interrupted, as well as what they name. After `close` git has no credentials any more.
    """

    def __init__(
        self, context: JobContext, details: JobDetails, commands: JobCommands, stream: LogStream, folder: JobFolder
    ) -> None:
        self._context = context
        self._details = details
        self._commands = commands
        self._stream = stream
        self._folder = folder
        self._workspace = folder.workspace
        self._access = NO_ACCESS
        self._key_file: Optional[Path] = None

    def use(self, access: FetchAccess) -> None:
        """Fetch with these credentials. Raises OSError."""
        self._access = access
        if access.private_key:
            self._key_file = self._folder.write_fetch_key(access.private_key)

    def close(self) -> None:
        """Forget the credentials: steps come now."""
        self._access, self._key_file = NO_ACCESS, None
        self._folder.remove_fetch_key()

    def fetch(self) -> Checkout:
        """Check out the job's ref of its repository. Raises JobFailed, MachineFailed or OSError."""
        self._stream.say(f"── fetching {one_line(url_without_credentials(self._details.repository))}")
        if not repository_is_allowed(self._details.repository, self._context.repositories):
            # Not a failure of this machine: any pipeline could otherwise make the agent look unhealthy.
            raise JobFailed(
                f"Agent {self._context.agent_name} may not fetch this repository (--allow-repository). "
                "Give the pipeline a label of agents that may."
            )
        try:
            return checkout(
                url=self._details.repository,
                ref=self._details.git_ref,
                workspace=self._workspace,
                tools=self._tools(),
            )
        except CheckoutFailed as error:
            raise self._not_fetched("The repository", error) from error

    def fetch_submodules(self) -> None:
        """Fetch the submodules of what was checked out. Raises JobFailed, MachineFailed or OSError."""
        began = time.monotonic()
        try:
            count = submodules_fetch(
                url=self._details.repository,
                workspace=self._workspace,
                tools=self._tools(),
                is_allowed=lambda url: repository_is_allowed(url, self._context.repositories),
            )
        except CheckoutFailed as error:
            raise self._not_fetched("The submodules", error) from error
        self._stream.say(f"── {count} submodules fetched in {seconds_since(began)}")

    def definition(self, attempt: Attempt, commit: str) -> Definition:
        """What the pipeline file in the checkout of `commit` defines, as the control plane understands it.

        If the control plane has the definition, it learns the commit alone. What else it wants of the commit, it gets.
        Raises JobFailed if there is no valid file. If the control plane refuses the attempt, this abandons it.
        """
        name = self._details.definition_path
        text = None if name is None else _definition_text(self._workspace / name, name)
        facts: Optional[CommitFacts] = None
        for _ in range(_MOST_QUESTIONS):
            answer = self._report_definition(attempt, commit, text, facts)
            if isinstance(answer, Definition):
                return answer
            facts = self._facts(commit, answer)
        raise JobFailed("The control plane goes on asking about the commit and defines no job. Run the job again.")

    def _report_definition(
        self, attempt: Attempt, commit: str, text: Optional[str], facts: Optional[CommitFacts]
    ) -> Union[Definition, Wants]:
        try:
            return self._context.plane.definition(
                attempt.job,
                commit=commit,
                text=text,
                facts=facts,
                secrets_key=attempt.key.public,
                stop=attempt.ending,
            )
        except GivenUp:
            raise Interrupted(attempt.end_reason or STOP) from None
        except Refused as error:
            if error.code == SECRETS_MISSING:
                raise JobFailed(error.detail) from error
            if error.code not in ABOUT_DEFINITION:
                log_refusal(attempt, error)
                attempt.request_end(ABANDON)
                raise Interrupted(ABANDON) from error
            lines = error.field_messages() or [error.detail]
            name = self._details.definition_path or "the pipeline's definition"
            if error.errors and all(_is_asked(one) for one in error.errors):
                raise JobFailed("\n".join([f"What the run asks for does not fit {name}:", *lines])) from error
            raise JobFailed("\n".join([f"{name[0].upper()}{name[1:]} is not valid:", *lines])) from error

    def _facts(self, commit: str, wants: Wants) -> CommitFacts:
        began = time.monotonic()
        limit = began + _FACTS_LIMIT_SECONDS
        finder = FactFinder(
            lambda arguments, output: self._run_quietly(arguments, output, limit),
            commit=commit,
            url=self._details.repository,
            git_dir=self._workspace / ".git",
            scratch=self._workspace.with_name("history.git"),
        )
        facts = finder.facts(wants)
        changed = "unknown" if facts.changed_paths is None else f"{len(facts.changed_paths):,}"
        self._stream.say(f"── changed paths: {changed}, found in {seconds_since(began)}")
        return facts

    def _run_quietly(self, arguments: list[str], output: Callable[[bytes], None], limit: float) -> int:
        """Run git in the workspace without its messages. Returns its exit code, or that of TERM at the limit."""
        git = git_path(self._context.git_env.get("PATH"))
        try:
            return self._commands.run(
                ["/bin/sh", "-c", 'exec "$@" 2>/dev/null', "sh", git, *self._access.options(), *arguments],
                env=self._git_env(),
                output=output,
                limit=limit,
                secret=self._access is not NO_ACCESS,
            )
        except Interrupted as interruption:
            if interruption.reason != TIMED_OUT:
                raise
            self._commands.raise_if_over(math.inf)
            return _TERMINATED

    def _not_fetched(self, what: str, error: CheckoutFailed) -> Exception:
        """The failure of the job or of the machine, whichever git's output shows."""
        fault = git_fault(str(error), control_plane_resolves=self._context.plane.host_resolves)
        # Of a full disk, git often says only that it cannot write a file.
        fault = fault or work_dir_fault(self._context.work_dir)
        if fault is not None:
            return MachineFailed(f"{what} could not be fetched: {fault}")
        return JobFailed(f"{what} could not be fetched: {error}")

    def _tools(self) -> Tools:
        limit = time.monotonic() + CHECKOUT_LIMIT_SECONDS
        return Tools(
            git=lambda arguments: self._git(arguments, limit),
            mirrors=self._context.mirrors,
            has_lfs=shutil.which("git-lfs", path=self._context.git_env.get("PATH")) is not None,
            waiting=lambda: self._commands.raise_if_over(limit),
            realm=self._access.realm,
        )

    def _git_env(self) -> dict[str, str]:
        return self._access.environment({**self._context.git_env, **GIT_ENVIRONMENT}, self._key_file)

    def _git(self, arguments: list[str], limit: float) -> tuple[int, bytes]:
        """Run git in the workspace until `limit`, a moment of the monotonic clock. Returns exit code and output."""
        printed = bytearray()

        def keep(data: bytes) -> None:
            printed.extend(data[: max(0, _GIT_OUTPUT_LIMIT_BYTES - len(printed))])

        git = git_path(self._context.git_env.get("PATH"))
        code = self._commands.run(
            [git, *self._access.options(), *arguments],
            env=self._git_env(),
            output=keep,
            limit=limit,
            secret=self._access is not NO_ACCESS,
        )
        if code == _KILLED:
            raise MachineFailed("git was killed, most likely because the machine has too little memory")
        return code, bytes(printed)


def _definition_text(path: Path, name: str) -> str:
    """The text of the pipeline file. `name` is its path in the repository. Raises JobFailed."""
    try:
        # A link could lead out of the workspace, to files that the job must not read.
        data = read_regular(path, _DEFINITION_LIMIT_BYTES + 1)
        if data is None:
            raise JobFailed(f"{name} is not a file.")
        if len(data) > _DEFINITION_LIMIT_BYTES:
            raise JobFailed(f"{name} is larger than {_DEFINITION_LIMIT_BYTES // 1024} KiB.")
        return data.decode()
    except FileNotFoundError as error:
        raise JobFailed(f"The repository has no {name} at this commit.") from error
    except OSError as error:
        raise JobFailed(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise JobFailed(f"{name} is not UTF-8 text.") from error


def _is_asked(error: Any) -> bool:
    """Whether the error is about what the run was started with, and not about a place in the file."""
    field = str(error.get("field", "")) if isinstance(error, dict) else ""
    return (field == "environment" or field.startswith("parameters.")) and not error.get("line")
