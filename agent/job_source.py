"""Bring what a job runs into its workspace: the repository, its submodules, and the pipeline file in it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from pathlib import Path

from agent.attempt import ABANDON, STOP, Attempt
from agent.checkout import GIT_ENVIRONMENT, Checkout, CheckoutFailed, Tools, checkout, url_without_credentials
from agent.client import GivenUp, Refused
from agent.delivery import log_refusal
from agent.health import work_dir_fault
from agent.job_commands import JobCommands
from agent.job_context import JobContext
from agent.job_ends import Interrupted, JobFailed
from agent.log_stream import LogStream
from agent.log_text import one_line, seconds_since
from agent.machine import MachineFailed, git_fault, git_path
from agent.protocol import Definition, JobDetails
from agent.refusals import ABOUT_DEFINITION
from agent.repositories import repository_is_allowed
from agent.submodules import submodules_fetch

# The checkout has a time limit even if the job has none: a server that never answers would block the slot for ever.
CHECKOUT_LIMIT_SECONDS = 1800
_DEFINITION_LIMIT_BYTES = 512 * 1024
_GIT_OUTPUT_LIMIT_BYTES = 64 * 1024
_KILLED = 128 + signal.SIGKILL


class JobSource:
    """Fetches the source of one attempt into `workspace`, by git that `commands` runs. Its progress goes to `stream`.

    All methods raise Interrupted, as well as what they name.
    """

    def __init__(
        self, context: JobContext, details: JobDetails, commands: JobCommands, stream: LogStream, workspace: Path
    ) -> None:
        self._context = context
        self._details = details
        self._commands = commands
        self._stream = stream
        self._workspace = workspace

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

        Raises JobFailed if there is no valid file. If the control plane refuses the attempt, this abandons it.
        """
        name = self._details.definition_path
        text = _definition_text(self._workspace / name, name)
        try:
            return self._context.plane.definition(attempt.job, commit=commit, text=text, stop=attempt.ending)
        except GivenUp:
            raise Interrupted(attempt.end_reason or STOP) from None
        except Refused as error:
            if error.code not in ABOUT_DEFINITION:
                log_refusal(attempt, error)
                attempt.request_end(ABANDON)
                raise Interrupted(ABANDON) from error
            lines = error.field_messages() or [error.detail]
            raise JobFailed("\n".join([f"{name} is not valid:", *lines])) from error

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
        )

    def _git(self, arguments: list[str], limit: float) -> tuple[int, bytes]:
        """Run git in the workspace until `limit`, a moment of the monotonic clock. Returns exit code and output."""
        printed = bytearray()

        def keep(data: bytes) -> None:
            printed.extend(data[: max(0, _GIT_OUTPUT_LIMIT_BYTES - len(printed))])

        git = git_path(self._context.git_env.get("PATH"))
        code = self._commands.run(
            [git, *arguments], env={**self._context.git_env, **GIT_ENVIRONMENT}, output=keep, limit=limit
        )
        if code == _KILLED:
            raise MachineFailed("git was killed, most likely because the machine has too little memory")
        return code, bytes(printed)


def _definition_text(path: Path, name: str) -> str:
    """The text of the pipeline file. `name` is its path in the repository. Raises JobFailed."""
    try:
        # A link could lead out of the workspace, to files that the job must not read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise JobFailed(f"{name} is not a file.")
            data = file.read(_DEFINITION_LIMIT_BYTES + 1)
        if len(data) > _DEFINITION_LIMIT_BYTES:
            raise JobFailed(f"{name} is larger than {_DEFINITION_LIMIT_BYTES // 1024} KiB.")
        return data.decode()
    except FileNotFoundError as error:
        raise JobFailed(f"The repository has no {name} at this commit.") from error
    except OSError as error:
        raise JobFailed(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise JobFailed(f"{name} is not UTF-8 text.") from error
