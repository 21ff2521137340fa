"""Run one attempt in order, source first and then steps, and report how it ended."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any, Optional

from agent.attempt import CANCEL, Attempt
from agent.health import work_dir_fault
from agent.job_commands import JobCommands
from agent.job_context import JobContext
from agent.job_ends import TIMED_OUT, Interrupted, JobFailed
from agent.job_folder import JobFolder
from agent.job_source import CHECKOUT_LIMIT_SECONDS, JobSource
from agent.job_steps import JobSteps, StepRecords
from agent.log_stream import LogStream
from agent.log_text import one_line, seconds_since
from agent.machine import FAULT_CHARACTERS, MachineFailed, is_machine_failure
from agent.protocol import Definition, JobDetails

logger = logging.getLogger(__name__)


class JobRun:
    """The run of one attempt. Its log goes to `stream`, its files to `folder`."""

    def __init__(
        self, context: JobContext, attempt: Attempt, details: JobDetails, stream: LogStream, folder: JobFolder
    ) -> None:
        self._context = context
        self._attempt = attempt
        self._details = details
        self._stream = stream
        self._folder = folder
        self._commit: Optional[str] = None
        self._commands = JobCommands(context.launcher, attempt, stream, folder.workspace, timeout=details.timeout)
        self._records = StepRecords(attempt)
        if details.definition is not None:
            self._use_definition(details.definition)

    def report(self) -> dict[str, Any]:
        """Run the job. Returns its finish report without the number of log chunks. Raises OSError if the disk fails."""
        try:
            exit_code, error = self._outcome()
        finally:
            self._commands.close()
            if self._folder.owner is not None:
                self._folder.owner.kill_processes()
        self._records.skip_rest()
        if error is not None:
            with suppress(OSError):
                self._stream.say(f"── {error}")
        return {
            "exit_code": exit_code,
            "error_message": error,
            "steps": self._records.report(),
            "commit": self._commit,
            "agent_fault": self._attempt.agent_fault,
        }

    def _outcome(self) -> tuple[Optional[int], Optional[str]]:
        """Run the job. Returns its exit code and its error message."""
        try:
            self._run()
        except Interrupted as interruption:
            return None, self._interruption_message(interruption.reason)
        except JobFailed as failure:
            return self._records.exit_code, str(failure)
        except MachineFailed as failure:
            return None, self._machine_failure(str(failure))
        except Exception as failure:
            text = str(failure) or type(failure).__name__
            if self._is_of_machine(failure):
                return None, self._machine_failure(text)
            # A bug here must not block the slot. The job's log and the agent's log both name it.
            logger.exception("an unexpected error in the agent ended %s", self._attempt.job)
            return self._records.exit_code, f"The agent could not run the job: {text}"
        return self._records.exit_code, None

    def _run(self) -> None:
        details, job = self._details, self._attempt.job
        self._stream.say(
            f"── attempt {job.attempt} · agent {self._context.agent_name} · pipeline {details.pipeline} "
            f"· ref {one_line(details.git_ref)}"
        )
        logger.info("the agent starts %s: pipeline %s, ref %s", job, details.pipeline, one_line(details.git_ref))
        fault = work_dir_fault(self._context.work_dir)
        if fault is not None:
            raise MachineFailed(fault)
        self._folder.create()
        source = JobSource(self._context, details, self._commands, self._stream, self._folder.workspace)
        fetched = source.fetch()
        self._commit = fetched.commit
        took = seconds_since(self._commands.began)
        self._stream.say(f"── commit {fetched.commit} · {fetched.kind} fetched in {took}")
        definition = details.definition
        if definition is None:
            definition = source.definition(self._attempt, fetched.commit)
            self._use_definition(definition)
        if definition.submodules:
            source.fetch_submodules()
        steps = JobSteps(
            self._context,
            job,
            details,
            commands=self._commands,
            stream=self._stream,
            folder=self._folder,
            records=self._records,
        )
        steps.run(definition, fetched.commit)

    def _use_definition(self, definition: Definition) -> None:
        """Take the steps and the time limit from the definition."""
        self._commands.limit_job(definition.timeout)
        self._records.define(definition.steps)

    def _is_of_machine(self, failure: Exception) -> bool:
        # Before the first step, the job has no part in what happens to files and processes.
        return is_machine_failure(failure) or (isinstance(failure, OSError) and not self._records.has_begun)

    def _machine_failure(self, text: str) -> str:
        """Record that the machine ended the attempt. Returns the error message."""
        self._attempt.agent_fault = text[:FAULT_CHARACTERS]
        return f"The machine failed: {text}"

    def _interruption_message(self, reason: str) -> str:
        if reason == CANCEL:
            return "The job was cancelled."
        if reason == TIMED_OUT:
            timeout = self._commands.timeout
            if timeout is not None and time.monotonic() >= self._commands.began + timeout:
                return f"The job exceeded its time limit of {timeout:g} s."
            return f"Fetching the repository took longer than {CHECKOUT_LIMIT_SECONDS} s."
        return "The agent was stopped."
