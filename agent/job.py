"""One attempt of a job from its start to its report: checkout, definition, steps."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from agent import clock
from agent.attempt import ABANDON, CANCEL, STOP, Attempt
from agent.checkout import GIT_ENVIRONMENT, Checkout, CheckoutFailed, checkout, url_without_credentials
from agent.client import GivenUp, Refused
from agent.delivery import deliver, tell_refusal
from agent.files import remove_folder
from agent.log_stream import LogStream
from agent.process import Command, Launcher
from agent.protocol import Assignment, ControlPlane, Definition, JobDetails, StepDefinition
from agent.spool import Spool

logger = logging.getLogger(__name__)

# Fetching has a limit even where the job has none: a server that accepts and then keeps silent would hold the slot.
CHECKOUT_LIMIT_SECONDS = 1800
_DEFINITION_LIMIT_BYTES = 512 * 1024
_GIT_OUTPUT_LIMIT_BYTES = 64 * 1024
TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class Surroundings:
    """What all jobs of an agent share: where they run, with what environment, under which agent's name."""

    plane: ControlPlane
    spool: Spool
    launcher: Launcher
    work_dir: Path
    step_env: dict[str, str]
    git_env: dict[str, str]
    agent_name: str


class JobFailed(Exception):
    """The job ends here; the message is its error message."""


class Interrupted(Exception):
    """A command was stopped before its own end; `reason` is an order or `TIMED_OUT`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def run_job(around: Surroundings, attempt: Attempt, wants_next: Callable[[], bool]) -> Optional[Assignment]:
    """Run the attempt and deliver its log and result. Returns the next job, if one is wanted and waits.

    Nothing is reported of an attempt that is not this agent's any more.
    """
    try:
        details = around.plane.start(attempt.job, stop=attempt.leaving)
    except GivenUp:
        return None
    except Refused as error:
        tell_refusal(attempt, error)
        return None
    attempt.started = True
    spooled = around.spool.open(attempt.job)
    stream = LogStream(spooled)
    following: list[Assignment] = []

    def bring() -> None:
        answer = deliver(around.plane, attempt, spooled, stream.sequences(), wants_next)
        if answer is not None:
            following.append(answer)

    delivery = threading.Thread(target=bring, name=f"delivery of {attempt.job}", daemon=True)
    delivery.start()
    folder = around.work_dir / f"{attempt.job.job_id}.{attempt.job.attempt}"
    try:
        report = _Run(around, attempt, details, stream, folder).report()
        if attempt.order == ABANDON:
            stream.abandon()
        else:
            stream.finish(report)
            logger.info("%s ended: %s", attempt.job, _one_line((report["error_message"] or "completed").split("\n")[0]))
    except OSError as error:
        logger.error("%s is dropped, its result cannot be kept: %s", attempt.job, error)
        attempt.want(ABANDON)
        stream.abandon()
    if not remove_folder(folder):
        logger.warning("%s could not be removed", folder)
    delivery.join()
    if attempt.order == ABANDON:
        spooled.remove()
    return following[0] if following else None


class _Run:
    """The course of one attempt; its log goes to `stream`, its files to `folder`."""

    def __init__(
        self, around: Surroundings, attempt: Attempt, details: JobDetails, stream: LogStream, folder: Path
    ) -> None:
        self._around = around
        self._attempt = attempt
        self._details = details
        self._stream = stream
        self._folder = folder
        self._workspace = folder / "workspace"
        self._commit: Optional[str] = None
        self._exit_code: Optional[int] = None
        self._steps: list[dict[str, Any]] = []
        self._began = time.monotonic()
        self._timeout = details.timeout
        if details.definition is not None:
            self._take(details.definition)

    def report(self) -> dict[str, Any]:
        """Run everything and return the finish report, without the number of log chunks."""
        error: Optional[str] = None
        try:
            self._go()
        except Interrupted as interruption:
            error = self._interruption(interruption.reason)
        except JobFailed as failure:
            error = str(failure)
        except Exception as failure:
            # A bug here must not hold the slot; the job's log and the agent's tell of it.
            logger.exception("%s failed for a reason of the agent's own", self._attempt.job)
            error = f"The agent could not run the job: {failure or type(failure).__name__}"
        for step in self._steps:
            if step["state"] == "pending":
                self._set(step, state="skipped")
        if error is not None:
            self._stream.say(f"── {error}")
        return {
            "exit_code": self._exit_code,
            "error_message": error,
            "steps": self._steps,
            "commit": self._commit,
        }

    def _go(self) -> None:
        details, job = self._details, self._attempt.job
        self._stream.say(
            f"── attempt {job.attempt} · agent {self._around.agent_name} · pipeline {details.pipeline} "
            f"· ref {_one_line(details.git_ref)}"
        )
        logger.info("%s begins: pipeline %s, ref %s", job, details.pipeline, _one_line(details.git_ref))
        remove_folder(self._folder)
        self._workspace.mkdir(parents=True, mode=0o700)
        fetched = self._fetch()
        self._commit = fetched.commit
        self._stream.say(f"── commit {fetched.commit} · {fetched.what} fetched in {self._seconds(self._began)}")
        definition = details.definition
        if definition is None:
            definition = self._definition(fetched.commit)
            self._take(definition)
        for index, step in enumerate(definition.steps):
            self._run_step(index, step, definition)

    def _fetch(self) -> Checkout:
        self._stream.say(f"── fetching {_one_line(url_without_credentials(self._details.repository))}")
        limit = time.monotonic() + CHECKOUT_LIMIT_SECONDS
        try:
            return checkout(
                url=self._details.repository,
                ref=self._details.git_ref,
                workspace=self._workspace,
                git=lambda arguments: self._git(arguments, limit),
            )
        except CheckoutFailed as error:
            raise JobFailed(f"The repository could not be fetched: {error}") from error

    def _git(self, arguments: list[str], limit: float) -> tuple[int, bytes]:
        printed = bytearray()

        def keep(data: bytes) -> None:
            printed.extend(data[: max(0, _GIT_OUTPUT_LIMIT_BYTES - len(printed))])

        git = shutil.which("git", path=self._around.git_env.get("PATH")) or "git"
        code = self._command(
            [git, *arguments], env={**self._around.git_env, **GIT_ENVIRONMENT}, output=keep, limit=limit
        )
        return code, bytes(printed)

    def _definition(self, commit: str) -> Definition:
        text = self._definition_text(self._details.definition_path)
        try:
            return self._around.plane.definition(
                self._attempt.job, commit=commit, text=text, stop=self._attempt.leaving
            )
        except GivenUp:
            raise Interrupted(self._attempt.order or STOP) from None
        except Refused as error:
            if error.status != 422:
                tell_refusal(self._attempt, error)
                self._attempt.want(ABANDON)
                raise Interrupted(ABANDON) from error
            lines = [_field_error(one) for one in error.errors] or [error.detail]
            raise JobFailed("\n".join([f"{self._details.definition_path} is not valid:", *lines])) from error

    def _definition_text(self, name: str) -> str:
        path = self._workspace / name
        try:
            # A link could lead out of the workspace, to what is none of the job's business.
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

    def _take(self, definition: Definition) -> None:
        """What the job does is known now."""
        limits = [limit for limit in (self._timeout, definition.timeout) if limit is not None]
        self._timeout = min(limits) if limits else None
        self._steps = [
            {"name": step.name, "state": "pending", "exit_code": None, "started_at": None, "completed_at": None}
            for step in definition.steps
        ]
        self._attempt.set_steps(self._steps)

    def _run_step(self, index: int, step: StepDefinition, definition: Definition) -> None:
        record = self._steps[index]
        self._heed_order()
        title = f"── step {index + 1}/{len(self._steps)}: {_one_line(step.name)}"
        self._stream.say(title)
        self._set(record, state="running", started_at=clock.timestamp())
        began = time.monotonic()
        script = self._folder / f"step-{index + 1}.sh"
        limit = None if step.timeout is None else began + step.timeout
        env = {**self._around.step_env, **definition.env, **self._details.env, **step.env, **self._own_env(step)}
        try:
            script.write_text(step.run, encoding="utf-8")
            code = self._command(["/bin/sh", "-e", str(script)], env=env, output=self._stream.write, limit=limit)
        except Interrupted as interruption:
            state = TIMED_OUT if interruption.reason == TIMED_OUT else "cancelled"
            self._set(record, state=state, completed_at=clock.timestamp())
            self._stream.say(f"{title} · {state.replace('_', ' ')} after {self._seconds(began)}")
            if interruption.reason == TIMED_OUT and limit is not None and time.monotonic() >= limit:
                message = f"Step {step.name!r} exceeded its time limit of {step.timeout:g} s."
                raise JobFailed(message) from interruption
            raise
        except BaseException:
            self._set(record, state="failed", completed_at=clock.timestamp())
            raise
        self._exit_code = code
        self._set(record, state="failed" if code else "completed", exit_code=code, completed_at=clock.timestamp())
        self._stream.say(f"{title} · exit code {code} after {self._seconds(began)}")
        if code:
            raise JobFailed(f"Step {step.name!r} ended with exit code {code}.")

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
        self, command: list[str], *, env: dict[str, str], output: Callable[[bytes], None], limit: Optional[float]
    ) -> int:
        """Run it to its end and return its exit code.

        Raises Interrupted when an order or a time limit ended it, the step's (`limit`) or the job's.
        """
        self._heed_order()
        job_limit = None if self._timeout is None else self._began + self._timeout
        limits = [moment for moment in (limit, job_limit) if moment is not None]
        process = self._around.launcher.start(
            command, cwd=self._workspace, env=env, output=output, on_end=self._attempt.wake.set
        )
        reason = self._await(process, min(limits) if limits else None)
        if reason is not None:
            raise Interrupted(reason)
        if process.failure is not None:
            raise JobFailed(f"The output could not be kept: {process.failure}") from process.failure
        return process.exit_code

    def _await(self, process: Command, limit: Optional[float]) -> Optional[str]:
        """Wait for the end; returns what made the end come early, if anything did."""
        reason = None
        while not process.is_over:
            left = 60.0 if limit is None or reason else max(0.0, limit - time.monotonic())
            self._attempt.wake.wait(left)
            self._attempt.wake.clear()
            if reason is None and not process.is_over:
                reason = self._attempt.order or (TIMED_OUT if limit and time.monotonic() >= limit else None)
                if reason is not None:
                    # Its last words must not wait for a control plane that is away.
                    self._stream.bound_lifted.set()
                    process.stop()
        return reason

    def _heed_order(self) -> None:
        order = self._attempt.order
        if order is not None:
            raise Interrupted(order)

    def _interruption(self, reason: str) -> str:
        self._exit_code = None
        if reason == CANCEL:
            return "The job was cancelled."
        if reason == TIMED_OUT:
            if self._timeout is not None and time.monotonic() >= self._began + self._timeout:
                return f"The job exceeded its time limit of {self._timeout:g} s."
            return f"Fetching the repository took longer than {CHECKOUT_LIMIT_SECONDS} s."
        return "The agent was stopped."

    def _set(self, step: dict[str, Any], **values: Any) -> None:
        step.update(values)
        self._attempt.set_steps(self._steps)

    def _seconds(self, since: float) -> str:
        return f"{time.monotonic() - since:.1f} s"


def _field_error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    line = f" (line {error['line']})" if error.get("line") else ""
    return f"{error.get('field', '')}{line}: {error.get('message', '')}"


def _one_line(text: str) -> str:
    """Text from elsewhere as it may stand in a line of the agent's own."""
    return "".join(character if character.isprintable() else "�" for character in text)
