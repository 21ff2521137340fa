"""Run the commands of one attempt under its guard, each to its end, its time limit or a request to end the attempt."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from agent.attempt import ABANDON, Attempt
from agent.job_ends import TIMED_OUT, Interrupted
from agent.log import Log
from agent.machine import MachineFailed
from agent.process import Guard, Launcher, RunningCommand
from agent.step_users import StepUser

logger = logging.getLogger(__name__)


class JobCommands:
    """Runs the commands of one attempt, one after another, in its workspace. The job's time begins with this object."""

    def __init__(
        self, launcher: Launcher, attempt: Attempt, stream: Log, workspace: Path, *, timeout: Optional[float]
    ) -> None:
        """`timeout` is for the whole job, in seconds, None for no limit."""
        self._launcher = launcher
        self._attempt = attempt
        self._stream = stream
        self._workspace = workspace
        self._guard: Optional[Guard] = None
        # A moment of the monotonic clock.
        self.began = time.monotonic()
        self.timeout = timeout

    def limit_job(self, timeout: Optional[float]) -> None:
        """Limit the whole job to so many seconds, too. The shortest limit counts, and None changes nothing."""
        limits = [limit for limit in (self.timeout, timeout) if limit is not None]
        self.timeout = min(limits) if limits else None

    def run(
        self,
        command: list[str],
        *,
        env: dict[str, str],
        output: Callable[[bytes], None],
        limit: Optional[float],
        user: Optional[StepUser] = None,
        secret: bool = False,
    ) -> int:
        """Run the command to its end and return its exit code. `limit` is a moment of the monotonic clock.

        Without `user` it runs as the agent's own user. `secret`: `env` has secret values.

        Raises Interrupted if a request to end or a time limit stopped it (`limit` or the job's), MachineFailed if it
        ended because its output could not be written, and OSError if it could not be started.
        """
        self.raise_if_ending()
        job_limit = None if self.timeout is None else self.began + self.timeout
        limits = [moment for moment in (limit, job_limit) if moment is not None]
        process = self.guard().start(
            command,
            cwd=self._workspace,
            env=env,
            output=output,
            on_end=self._attempt.wake.set,
            user=user,
            secret=secret,
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

    def guard(self) -> Guard:
        """The guard of this attempt's commands. The first call starts it. Raises OSError if that fails."""
        if self._guard is None:
            self._guard = self._launcher.guard()
        return self._guard

    def close(self) -> None:
        """End the guard, if it was started, and all processes of its commands."""
        if self._guard is not None:
            self._guard.close()

    def raise_if_ending(self) -> None:
        """Raise Interrupted if there was a request to end the attempt."""
        reason = self._attempt.end_reason
        if reason is not None:
            raise Interrupted(reason)

    def raise_if_over(self, limit: float) -> None:
        """Raise Interrupted if the attempt must end, or if `limit` (of the monotonic clock) or the job's has passed."""
        self.raise_if_ending()
        if time.monotonic() >= min(limit, self.began + (self.timeout or math.inf)):
            raise Interrupted(TIMED_OUT)

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
