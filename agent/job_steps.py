"""Run the steps of one attempt, on this machine or in a container, and keep their records."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from agent import clock
from agent.attempt import Attempt
from agent.container import Container
from agent.job_commands import JobCommands
from agent.job_context import StepContext
from agent.job_ends import TIMED_OUT, Interrupted, JobFailed
from agent.job_folder import JobFolder
from agent.job_secrets import JobSecrets
from agent.log import Log
from agent.log_text import echoed, one_line, seconds_since
from agent.machine import MachineFailed
from agent.protocol import Assignment, Definition, JobDetails, StepDefinition, StepState


class StepRecords:
    """The states of an attempt's steps, as its heartbeats and its report have them. Without a definition, none."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._records: list[dict[str, Any]] = []

    def define(self, steps: list[StepDefinition]) -> None:
        """Begin the records: each step waits."""
        self._records = [
            {
                "name": step.name,
                "state": StepState.PENDING,
                "exit_code": None,
                "started_at": None,
                "completed_at": None,
            }
            for step in steps
        ]
        self._attempt.set_steps(self._records)

    def update(self, index: int, **values: Any) -> None:
        """Change values of a step's record. The next heartbeat has them."""
        self._records[index].update(values)
        self._attempt.set_steps(self._records)

    def skip_rest(self) -> None:
        """Record that the steps that still wait do not run."""
        for index, record in enumerate(self._records):
            if record["state"] == StepState.PENDING:
                self.update(index, state=StepState.SKIPPED)

    def report(self) -> list[dict[str, Any]]:
        """The records as a finish report has them."""
        return self._records

    @property
    def has_begun(self) -> bool:
        """Whether a step has started."""
        return any(record["started_at"] for record in self._records)

    @property
    def exit_code(self) -> Optional[int]:
        """The exit code of the last step that ended by itself. None before that."""
        codes = [record["exit_code"] for record in self._records if record["exit_code"] is not None]
        return codes[-1] if codes else None


class JobSteps:
    """Runs the steps of one attempt in its folder. Their output goes to `stream`, their states to `records`."""

    def __init__(
        self,
        context: StepContext,
        job: Assignment,
        details: JobDetails,
        *,
        commands: JobCommands,
        stream: Log,
        folder: JobFolder,
        records: StepRecords,
        secrets: JobSecrets,
    ) -> None:
        self._secrets = secrets
        # The paths of those that steps get as files.
        self._paths: dict[str, str] = {}
        self._context = context
        self._job = job
        self._details = details
        self._commands = commands
        self._stream = stream
        self._folder = folder
        self._records = records

    def run(self, definition: Definition, commit: str) -> None:
        """Run the definition's steps, one after another, until one fails. `commit` is what was checked out.

        Raises JobFailed, Interrupted, MachineFailed, OSError, and UnicodeError if a script is no valid Unicode.
        """
        container = self._container(definition.container)
        if container is None or container.uses_step_user:
            self._folder.hand_over()
        for name, value in self._secrets.files.items():
            self._paths[name] = str(self._folder.write_secret(name, value))
        if container is not None:
            container.write_secrets(self._secrets)
        for index, step in enumerate(definition.steps):
            title = f"── step {index + 1}/{len(definition.steps)}: {one_line(step.name)}"
            env = {**definition.env, **self._details.env, **step.env, **self._own_env(step, commit)}
            self._run_step(index, step, title, env, container)

    def _run_step(
        self, index: int, step: StepDefinition, title: str, env: dict[str, str], container: Optional[Container]
    ) -> None:
        self._commands.raise_if_ending()
        self._stream.say("\n".join([title, *echoed(step.run)]))
        self._records.update(index, state=StepState.RUNNING, started_at=clock.timestamp())
        began = time.monotonic()
        limit = None if step.timeout is None else began + step.timeout
        try:
            script = self._folder.write_script(f"step-{index + 1}.sh", step.run)
            try:
                code = self._run_script(script, env, limit, container)
            finally:
                # What the step has done counts, even if the disk takes no more log.
                with suppress(OSError):
                    self._stream.end_output()
        except Interrupted as interruption:
            state = StepState.TIMED_OUT if interruption.reason == TIMED_OUT else StepState.CANCELLED
            self._records.update(index, state=state, completed_at=clock.timestamp())
            self._stream.say(f"{title} · {state.replace('_', ' ')} after {seconds_since(began)}")
            if interruption.reason == TIMED_OUT and limit is not None and time.monotonic() >= limit:
                message = f"Step {step.name!r} exceeded its time limit of {step.timeout:g} s."
                raise JobFailed(message) from interruption
            raise
        except OSError:
            # The script could not be written or started.
            self._records.update(index, state=StepState.PENDING, started_at=None)
            raise
        except BaseException:
            self._records.update(index, state=StepState.FAILED, completed_at=clock.timestamp())
            raise
        state = StepState.FAILED if code else StepState.COMPLETED
        self._records.update(index, state=state, exit_code=code, completed_at=clock.timestamp())
        with suppress(OSError):
            self._stream.say(f"{title} · exit code {code} after {seconds_since(began)}")
        if code:
            raise JobFailed(f"Step {step.name!r} ended with exit code {code}.")

    def _run_script(
        self, script: Path, env: dict[str, str], limit: Optional[float], container: Optional[Container]
    ) -> int:
        """Run a step's script in the container, or on this machine. Returns its exit code."""
        if container is None:
            return self._commands.run(
                ["/bin/sh", "-e", str(script)],
                env={
                    **self._context.step_env,
                    **self._folder.environment(),
                    **env,
                    **self._secrets.variables,
                    **self._paths,
                },
                output=self._stream.write,
                limit=limit,
                user=self._folder.owner,
                secret=bool(self._secrets),
            )
        command = container.command(script, {**self._context.container_env, **env})
        try:
            return self._commands.run(command, env=container.env, output=self._stream.write, limit=limit)
        finally:
            container.remove(self._commands.guard())

    def _container(self, image: Optional[str]) -> Optional[Container]:
        if image is None:
            return None
        engine = self._context.engines.use()
        if engine is None:
            raise MachineFailed(
                f"the pipeline asks for a container ({one_line(image)}), but this machine has neither "
                "podman nor docker that works. Install one of them, or take the label container from the agent"
            )
        return Container(
            engine,
            image=image,
            name=f"hybrid-ci-{self._job.job_id}-{self._job.attempt}",
            owner=self._context.engines.owner,
            folder=self._folder,
        )

    def _own_env(self, step: StepDefinition, commit: str) -> dict[str, str]:
        """The variables that tell a step about its job."""
        return {
            "CI": "true",
            "HYBRID_CI_JOB_ID": self._job.job_id,
            "HYBRID_CI_ATTEMPT": str(self._job.attempt),
            "HYBRID_CI_GIT_REF": self._details.shown_ref,
            "HYBRID_CI_COMMIT": commit,
            "HYBRID_CI_STEP": step.name,
        }
