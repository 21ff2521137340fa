"""Run one attempt of a job from its start to its report: checkout, definition, steps."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from agent import clock
from agent.attempt import ABANDON, CANCEL, STOP, Attempt
from agent.checkout import GIT_ENVIRONMENT, Checkout, CheckoutFailed, Tools, checkout, url_without_credentials
from agent.client import GivenUp, Refused
from agent.container import Container, Engines
from agent.delivery import deliver, log_refusal, log_spool_failure
from agent.job_folder import JobFolder
from agent.log_stream import LIMIT_BYTES, LogStream
from agent.machine import FAULT_CHARACTERS, MachineFailed, git_fault, git_path, is_machine_failure
from agent.mirror import Mirrors
from agent.process import Guard, Launcher, RunningCommand
from agent.protocol import Assignment, ControlPlane, Definition, JobDetails, StepDefinition, StepState
from agent.refusals import ABOUT_DEFINITION
from agent.repositories import RepositoryPattern, repository_is_allowed
from agent.spool import Spool
from agent.step_users import StepUser, StepUsers
from agent.submodules import submodules_fetch
from agent.trash import discard

logger = logging.getLogger(__name__)

# The checkout has a time limit even if the job has none: a server that never answers would block the slot for ever.
CHECKOUT_LIMIT_SECONDS = 1800
_DEFINITION_LIMIT_BYTES = 512 * 1024
_GIT_OUTPUT_LIMIT_BYTES = 64 * 1024
_KILLED = 128 + signal.SIGKILL
TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class JobContext:
    """What all jobs of an agent share.

    `repositories` has the patterns of those that may be fetched, and is empty for all. `step_env` and `git_env` are the
    environments that steps and git start with, `container_env` that of steps in a container; `agent_name` is shown in
    logs.
    """

    plane: ControlPlane
    spool: Spool
    launcher: Launcher
    work_dir: Path
    mirrors: Mirrors
    repositories: list[RepositoryPattern]
    step_env: dict[str, str]
    git_env: dict[str, str]
    agent_name: str
    step_users: StepUsers
    engines: Engines
    container_env: dict[str, str]


class JobFailed(Exception):
    """The job has failed. The message becomes the job's error message."""


class Interrupted(Exception):
    """The attempt must end early. `reason` is CANCEL, STOP, ABANDON or TIMED_OUT."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def run_job(context: JobContext, attempt: Attempt, wants_next: Callable[[], bool]) -> Optional[Assignment]:
    """Run the attempt and deliver its log and result.

    Returns the next job if `wants_next` says that the agent takes one and the control plane has one. An attempt that
    no longer belongs to this agent ends without a report.
    """
    owner = context.step_users.take()
    try:
        return _run_job(context, attempt, wants_next, owner)
    finally:
        context.step_users.give_back(owner)


def _run_job(
    context: JobContext, attempt: Attempt, wants_next: Callable[[], bool], owner: Optional[StepUser]
) -> Optional[Assignment]:
    try:
        details = context.plane.start(attempt.job, stop=attempt.ending)
    except GivenUp:
        return None
    except Refused as error:
        log_refusal(attempt, error)
        return None
    attempt.started = True
    try:
        spooled = context.spool.open(attempt.job)
    except OSError as error:
        attempt.agent_fault = f"the agent cannot use its spool: {error}"[:FAULT_CHARACTERS]
        _report_without_spool(context, attempt)
        return None
    stream = LogStream(spooled, limit=details.log_limit or LIMIT_BYTES)
    following: list[Assignment] = []

    def deliver_all() -> None:
        answer = deliver(context.plane, attempt, spooled, stream.sequences(), wants_next)
        if answer is not None:
            following.append(answer)

    delivery = threading.Thread(target=deliver_all, name=f"delivery of {attempt.job}", daemon=True)
    delivery.start()
    folder = JobFolder(context.work_dir / f"{attempt.job.job_id}.{attempt.job.attempt}", owner)
    try:
        report = _Run(context, attempt, details, stream, folder).report()
        if attempt.end_reason == ABANDON:
            stream.abandon()
        else:
            stream.finish(report)
            logger.info("%s ended: %s", attempt.job, _one_line((report["error_message"] or "completed").split("\n")[0]))
    except OSError as error:
        log_spool_failure(attempt, error)
        attempt.request_end(ABANDON)
        stream.abandon()
    discard(folder.path)
    delivery.join()
    if attempt.end_reason == ABANDON:
        spooled.remove()
    return following[0] if following else None


def _report_without_spool(context: JobContext, attempt: Attempt) -> None:
    """Report an attempt that has no log, since the machine failed before it began."""
    message = f"The machine failed: {attempt.agent_fault}"
    report: dict[str, Any] = {"exit_code": None, "error_message": message, "steps": [], "commit": None}
    report.update(log_chunks=0, agent_fault=attempt.agent_fault)
    try:
        context.plane.finish(attempt.job, report, wants_next=False, stop=attempt.muted)
    except GivenUp:
        pass
    except Refused as error:
        log_refusal(attempt, error)


class _Run:
    """Runs the steps of one attempt. Its log goes to `stream`, its files to `folder`."""

    def __init__(
        self, context: JobContext, attempt: Attempt, details: JobDetails, stream: LogStream, folder: JobFolder
    ) -> None:
        self._context = context
        self._attempt = attempt
        self._details = details
        self._stream = stream
        self._folder = folder
        self._workspace = folder.workspace
        self._commit: Optional[str] = None
        self._exit_code: Optional[int] = None
        self._steps: list[dict[str, Any]] = []
        self._guard: Optional[Guard] = None
        self._began = time.monotonic()
        self._timeout = details.timeout
        if details.definition is not None:
            self._use_definition(details.definition)

    def report(self) -> dict[str, Any]:
        """Run the job. Returns its finish report without the number of log chunks. Raises OSError if the disk fails."""
        error: Optional[str] = None
        try:
            self._run()
        except Interrupted as interruption:
            self._exit_code = None
            error = self._interruption_message(interruption.reason)
        except JobFailed as failure:
            error = str(failure)
        except MachineFailed as failure:
            error = self._machine_failure(str(failure))
        except Exception as failure:
            text = str(failure) or type(failure).__name__
            if self._is_of_machine(failure):
                error = self._machine_failure(text)
            else:
                # A bug here must not block the slot. The job's log and the agent's log both name it.
                logger.exception("an unexpected error in the agent ended %s", self._attempt.job)
                error = f"The agent could not run the job: {text}"
        finally:
            if self._guard is not None:
                self._guard.close()
            if self._folder.owner is not None:
                self._folder.owner.kill_processes()
        return self._finished(error)

    def _finished(self, error: Optional[str]) -> dict[str, Any]:
        for step in self._steps:
            if step["state"] == StepState.PENDING:
                self._update_step(step, state=StepState.SKIPPED)
        if error is not None:
            with suppress(OSError):
                self._stream.say(f"── {error}")
        return {
            "exit_code": self._exit_code,
            "error_message": error,
            "steps": self._steps,
            "commit": self._commit,
            "agent_fault": self._attempt.agent_fault,
        }

    def _is_of_machine(self, failure: Exception) -> bool:
        # Before the first step, the job has no part in what happens to files and processes.
        has_begun = any(step["started_at"] for step in self._steps)
        return is_machine_failure(failure) or (isinstance(failure, OSError) and not has_begun)

    def _machine_failure(self, text: str) -> str:
        """Record that the machine ended the attempt. Returns the error message."""
        self._attempt.agent_fault = text[:FAULT_CHARACTERS]
        self._exit_code = None
        return f"The machine failed: {text}"

    def _run(self) -> None:
        details, job = self._details, self._attempt.job
        self._stream.say(
            f"── attempt {job.attempt} · agent {self._context.agent_name} · pipeline {details.pipeline} "
            f"· ref {_one_line(details.git_ref)}"
        )
        logger.info("the agent starts %s: pipeline %s, ref %s", job, details.pipeline, _one_line(details.git_ref))
        self._folder.create()
        fetched = self._fetch()
        self._commit = fetched.commit
        self._stream.say(f"── commit {fetched.commit} · {fetched.kind} fetched in {_seconds_since(self._began)}")
        definition = details.definition
        if definition is None:
            definition = self._definition_of_repository(fetched.commit)
            self._use_definition(definition)
        if definition.submodules:
            self._fetch_submodules()
        container = self._container(definition)
        if container is None or container.uses_step_user:
            self._folder.hand_over()
        for index, step in enumerate(definition.steps):
            self._run_step(index, step, definition, container)

    def _fetch(self) -> Checkout:
        self._stream.say(f"── fetching {_one_line(url_without_credentials(self._details.repository))}")
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

    def _fetch_submodules(self) -> None:
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
        self._stream.say(f"── {count} submodules fetched in {_seconds_since(began)}")

    def _not_fetched(self, what: str, error: CheckoutFailed) -> Exception:
        """The failure of the job or of the machine, whichever git's output shows."""
        fault = git_fault(str(error), control_plane_resolves=self._context.plane.host_resolves)
        if fault is not None:
            return MachineFailed(f"{what} could not be fetched: {fault}")
        return JobFailed(f"{what} could not be fetched: {error}")

    def _tools(self) -> Tools:
        limit = time.monotonic() + CHECKOUT_LIMIT_SECONDS
        return Tools(
            git=lambda arguments: self._git(arguments, limit),
            mirrors=self._context.mirrors,
            has_lfs=shutil.which("git-lfs", path=self._context.git_env.get("PATH")) is not None,
            waiting=lambda: self._raise_if_over(limit),
        )

    def _git(self, arguments: list[str], limit: float) -> tuple[int, bytes]:
        printed = bytearray()

        def keep(data: bytes) -> None:
            printed.extend(data[: max(0, _GIT_OUTPUT_LIMIT_BYTES - len(printed))])

        git = git_path(self._context.git_env.get("PATH"))
        code = self._command(
            [git, *arguments], env={**self._context.git_env, **GIT_ENVIRONMENT}, output=keep, limit=limit
        )
        if code == _KILLED:
            raise MachineFailed("git was killed, most likely because the machine has too little memory")
        return code, bytes(printed)

    def _definition_of_repository(self, commit: str) -> Definition:
        text = self._definition_text(self._details.definition_path)
        try:
            return self._context.plane.definition(
                self._attempt.job, commit=commit, text=text, stop=self._attempt.ending
            )
        except GivenUp:
            raise Interrupted(self._attempt.end_reason or STOP) from None
        except Refused as error:
            if error.code not in ABOUT_DEFINITION:
                log_refusal(self._attempt, error)
                self._attempt.request_end(ABANDON)
                raise Interrupted(ABANDON) from error
            lines = error.field_messages() or [error.detail]
            raise JobFailed("\n".join([f"{self._details.definition_path} is not valid:", *lines])) from error

    def _definition_text(self, name: str) -> str:
        path = self._workspace / name
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

    def _use_definition(self, definition: Definition) -> None:
        """Take the steps and the time limit from the definition."""
        limits = [limit for limit in (self._timeout, definition.timeout) if limit is not None]
        self._timeout = min(limits) if limits else None
        self._steps = [
            {
                "name": step.name,
                "state": StepState.PENDING,
                "exit_code": None,
                "started_at": None,
                "completed_at": None,
            }
            for step in definition.steps
        ]
        self._attempt.set_steps(self._steps)

    def _run_step(
        self, index: int, step: StepDefinition, definition: Definition, container: Optional[Container]
    ) -> None:
        record = self._steps[index]
        self._raise_if_ending()
        title = f"── step {index + 1}/{len(self._steps)}: {_one_line(step.name)}"
        self._stream.say(title)
        self._update_step(record, state=StepState.RUNNING, started_at=clock.timestamp())
        began = time.monotonic()
        limit = None if step.timeout is None else began + step.timeout
        env = {**definition.env, **self._details.env, **step.env, **self._own_env(step)}
        try:
            script = self._folder.write_script(f"step-{index + 1}.sh", step.run)
            code = self._run_script(script, env, limit, container)
        except Interrupted as interruption:
            state = StepState.TIMED_OUT if interruption.reason == TIMED_OUT else StepState.CANCELLED
            self._update_step(record, state=state, completed_at=clock.timestamp())
            self._stream.say(f"{title} · {state.replace('_', ' ')} after {_seconds_since(began)}")
            if interruption.reason == TIMED_OUT and limit is not None and time.monotonic() >= limit:
                message = f"Step {step.name!r} exceeded its time limit of {step.timeout:g} s."
                raise JobFailed(message) from interruption
            raise
        except OSError:
            # The script could not be written or started.
            self._update_step(record, state=StepState.PENDING, started_at=None)
            raise
        except BaseException:
            self._update_step(record, state=StepState.FAILED, completed_at=clock.timestamp())
            raise
        self._exit_code = code
        state = StepState.FAILED if code else StepState.COMPLETED
        self._update_step(record, state=state, exit_code=code, completed_at=clock.timestamp())
        # What the step has done counts, even if the disk takes no more log.
        with suppress(OSError):
            self._stream.say(f"{title} · exit code {code} after {_seconds_since(began)}")
        if code:
            raise JobFailed(f"Step {step.name!r} ended with exit code {code}.")

    def _run_script(
        self, script: Path, env: dict[str, str], limit: Optional[float], container: Optional[Container]
    ) -> int:
        """Run a step's script in the container, or on this machine. Returns its exit code."""
        if container is None:
            return self._command(
                ["/bin/sh", "-e", str(script)],
                env={**self._context.step_env, **self._folder.environment(), **env},
                output=self._stream.write,
                limit=limit,
                user=self._folder.owner,
            )
        command = container.command(script, {**self._context.container_env, **env})
        try:
            return self._command(command, env=container.env, output=self._stream.write, limit=limit)
        finally:
            container.remove(self._running_guard())

    def _container(self, definition: Definition) -> Optional[Container]:
        if definition.container is None:
            return None
        engine = self._context.engines.use()
        if engine is None:
            raise MachineFailed(
                f"the pipeline asks for a container ({_one_line(definition.container)}), but this machine has neither "
                "podman nor docker that works. Install one of them, or take the label container from the agent"
            )
        job = self._attempt.job
        return Container(
            engine,
            image=definition.container,
            name=f"hybrid-ci-{job.job_id}-{job.attempt}",
            owner=self._context.engines.owner,
            folder=self._folder,
        )

    def _own_env(self, step: StepDefinition) -> dict[str, str]:
        return {
            "CI": "true",
            "HYBRID_CI_JOB_ID": self._attempt.job.job_id,
            "HYBRID_CI_ATTEMPT": str(self._attempt.job.attempt),
            "HYBRID_CI_GIT_REF": self._details.git_ref,
            "HYBRID_CI_COMMIT": self._commit or "",
            "HYBRID_CI_STEP": step.name,
        }

    def _command(
        self,
        command: list[str],
        *,
        env: dict[str, str],
        output: Callable[[bytes], None],
        limit: Optional[float],
        user: Optional[StepUser] = None,
    ) -> int:
        """Run the command to its end and return its exit code. `limit` is a moment of the monotonic clock.

        Without `user` it runs as the agent's own user.

        Raises Interrupted if a request to end or a time limit stopped it (`limit` or the job's), MachineFailed if it
        ended because its output could not be written, and OSError if it could not be started.
        """
        self._raise_if_ending()
        job_limit = None if self._timeout is None else self._began + self._timeout
        limits = [moment for moment in (limit, job_limit) if moment is not None]
        process = self._running_guard().start(
            command, cwd=self._workspace, env=env, output=output, on_end=self._attempt.wake.set, user=user
        )
        reason = self._wait_for_end(process, min(limits) if limits else None)
        if process.is_abandoned:
            # The control plane has given the job to another agent, or will do so: this report must not count.
            logger.warning("the guard ended %s, because this agent was frozen", self._attempt.job)
            self._attempt.request_end(ABANDON)
            reason = ABANDON
        if reason is not None:
            raise Interrupted(reason)
        if process.failure is not None and process.exit_code != 0:
            raise MachineFailed(f"the agent could not write the output to disk: {process.failure}") from process.failure
        return process.exit_code

    def _running_guard(self) -> Guard:
        """The guard of this attempt's commands. The first command starts it."""
        if self._guard is None:
            self._guard = self._context.launcher.guard()
        return self._guard

    def _wait_for_end(self, process: RunningCommand, limit: Optional[float]) -> Optional[str]:
        """Wait until the command is over. Returns why it was stopped early, or None."""
        reason = None
        while not process.is_over:
            left = 60.0 if limit is None or reason else max(0.0, limit - time.monotonic())
            self._attempt.wake.wait(left)
            self._attempt.wake.clear()
            if reason is None and not process.is_over:
                reason = self._attempt.end_reason or (TIMED_OUT if limit and time.monotonic() >= limit else None)
                if reason is not None:
                    # Its last output must not wait for a control plane that does not answer.
                    self._stream.ignore_limit.set()
                    process.stop()
        return reason

    def _raise_if_over(self, limit: float) -> None:
        """Raise Interrupted if the attempt must end or `limit`, a moment of the monotonic clock, has passed."""
        self._raise_if_ending()
        if time.monotonic() >= min(limit, self._began + (self._timeout or math.inf)):
            raise Interrupted(TIMED_OUT)

    def _raise_if_ending(self) -> None:
        reason = self._attempt.end_reason
        if reason is not None:
            raise Interrupted(reason)

    def _interruption_message(self, reason: str) -> str:
        if reason == CANCEL:
            return "The job was cancelled."
        if reason == TIMED_OUT:
            if self._timeout is not None and time.monotonic() >= self._began + self._timeout:
                return f"The job exceeded its time limit of {self._timeout:g} s."
            return f"Fetching the repository took longer than {CHECKOUT_LIMIT_SECONDS} s."
        return "The agent was stopped."

    def _update_step(self, step: dict[str, Any], **values: Any) -> None:
        step.update(values)
        self._attempt.set_steps(self._steps)


def _seconds_since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _one_line(text: str) -> str:
    """Text from a user or a repository, fit for one line of a log: without line breaks and control characters."""
    return "".join(character if character.isprintable() else "�" for character in text)
