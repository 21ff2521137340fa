"""Run one attempt in order, source first and then steps, and report how it ended."""

from __future__ import annotations

import logging
import time
import traceback
from contextlib import suppress
from typing import Any, Optional

from agent.attempt import CANCEL, Attempt
from agent.checkout import Checkout
from agent.exchange import Exchange
from agent.fetch_access import fetch_access
from agent.health import work_dir_fault
from agent.job_archives import Place
from agent.job_artifacts import NAME as ARTIFACTS
from agent.job_commands import JobCommands
from agent.job_context import JobContext
from agent.job_ends import TIMED_OUT, Interrupted, JobFailed
from agent.job_exchange import JobExchange
from agent.job_folder import JobFolder
from agent.job_reports import JobReports
from agent.job_secrets import JobSecrets, secrets_open
from agent.job_source import CHECKOUT_LIMIT_SECONDS, JobSource
from agent.job_steps import JobSteps, StepRecords
from agent.job_tokens import JobTokens
from agent.job_uploads import JobUploads
from agent.log_stream import LogStream
from agent.log_text import one_line, seconds_since
from agent.machine import FAULT_CHARACTERS, MachineFailed, is_machine_failure
from agent.protocol import Definition, JobDetails
from agent.step_door import MASK, TOKEN, UPLOAD, Serve, StepDoor, Verb
from agent.storage_requests import StorageRequests
from agent.store import RemoteStore

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
        self._exchange: Optional[JobExchange] = None
        if details.definition is not None:
            self._use_definition(details.definition)

    def report(self) -> dict[str, Any]:
        """Run the job. Returns its finish report without the number of log chunks. Raises OSError if the disk fails."""
        try:
            exit_code, error = self._outcome()
        finally:
            self._commands.close()
            self._end_processes()
        self._records.skip_rest()
        masks = self._stream.added.masks
        if self._attempt.agent_fault is not None:
            self._attempt.agent_fault = masks.mask_text(self._attempt.agent_fault)
        if error is not None:
            error = masks.mask_text(error)
            with suppress(OSError):
                self._stream.say(f"── {error}")
        return self._report(exit_code, error)

    def _report(self, exit_code: Optional[int], error: Optional[str]) -> dict[str, Any]:
        outputs = self._exchange.outputs if self._exchange else {}
        return {
            "exit_code": exit_code,
            "error_message": error,
            "steps": self._records.report(),
            "commit": self._commit,
            "agent_fault": self._attempt.agent_fault,
            **self._details.echo,
            **({"outputs": outputs} if outputs else {}),
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
        except Exception as failure:  # noqa: BLE001 — a bug here must not block the slot
            text = str(failure) or type(failure).__name__
            if self._is_of_machine(failure):
                return None, self._machine_failure(text)
            # The job's log and the agent's log both name it, without secrets.
            trace = self._stream.added.masks.mask_text(traceback.format_exc())
            logger.error("an unexpected error in the agent ended %s\n%s", self._attempt.job, trace)
            return self._records.exit_code, f"The agent could not run the job: {text}"
        return self._records.exit_code or 0, None

    def _run(self) -> None:
        details, job = self._details, self._attempt.job
        self._stream.say(
            f"── attempt {job.attempt} · agent {self._context.agent_name} · pipeline {details.pipeline} "
            f"· ref {one_line(details.shown_ref)}"
        )
        logger.info("the agent starts %s: pipeline %s, ref %s", job, details.pipeline, one_line(details.shown_ref))
        beyond = self._context.plane.targets_beyond(details)
        if beyond:
            self._attempt.is_declined = True
            raise MachineFailed(f"this agent may not deploy to {one_line(', '.join(beyond))}")
        fault = work_dir_fault(self._context.work_dir)
        if fault is not None:
            raise MachineFailed(fault)
        self._folder.create()
        source = JobSource(self._context, details, self._commands, self._stream, self._folder)
        try:
            fetched, definition, secrets = self._fetch(source)
        finally:
            source.close()
        exchange = self._exchange = self._begin_exchange(definition)
        exchange.before_steps()
        steps = JobSteps(
            self._context.steps,
            job,
            details,
            commands=self._commands,
            stream=self._stream,
            folder=self._folder,
            records=self._records,
            secrets=secrets,
        )
        reports = JobReports(self._context, self._attempt, self._stream, self._folder)
        try:
            self._run_steps(steps, definition, fetched.commit)
        except JobFailed:
            self._end_processes()
            # Also the tests that ran before a step failed or the time was over are worth reading.
            reports.send(definition.reports, commit=fetched.commit)
            exchange.after_failure()
            raise
        except Interrupted as interruption:
            if interruption.reason == TIMED_OUT:
                reports.send(definition.reports, commit=fetched.commit)
            raise
        self._end_processes()
        # After an upload that is kept, only the end of the job may follow.
        reports.send(definition.reports, commit=fetched.commit)
        exchange.after_success(self._keep_upload)

    def _fetch(self, source: JobSource) -> tuple[Checkout, Definition, JobSecrets]:
        """Fetch what the job runs. Returns what was checked out, the job's definition, and its secrets."""
        details, job = self._details, self._attempt.job
        access = fetch_access(
            details.encrypted_fetch,
            self._attempt.key,
            repository=details.repository,
            agent_id=self._context.plane.agent_id,
            job=(job.job_id, job.attempt),
        )
        self._stream.added.masks.add(access.values)
        source.use(access)
        fetched = source.fetch()
        self._commit = fetched.commit
        took = seconds_since(self._commands.began)
        self._stream.say(f"── commit {fetched.commit} · {fetched.kind} fetched in {took}")
        definition = details.definition
        if definition is None:
            definition = source.definition(self._attempt, fetched.commit)
            self._use_definition(definition)
        secrets = self._open_secrets(definition)
        if definition.submodules:
            source.fetch_submodules()
        return fetched, definition, secrets

    def _run_steps(self, steps: JobSteps, definition: Definition, commit: str) -> None:
        """Run the steps. They may ask the agent for identity tokens, and to mask values and add jobs to the run."""
        added = self._stream.added
        tokens = JobTokens(self._context.plane, self._attempt, self._stream)
        verbs: dict[Verb, Serve] = {MASK: added.serve, TOKEN: tokens.send}
        if self._details.echo:
            verbs[UPLOAD] = JobUploads(self._context.plane, self._attempt, self._stream).send
        self._folder.add_program()
        door = StepDoor(self._folder.exchange, verbs)
        door.open()
        try:
            steps.run(definition, commit)
        finally:
            door.close()
            self._folder.remove_secrets()

    def _open_secrets(self, definition: Definition) -> JobSecrets:
        """The secrets of the job, which the log shows no more. Raises JobFailed."""
        details, job = self._details, self._attempt.job
        secrets = secrets_open(
            definition.secrets,
            definition.encrypted if details.definition is None else details.encrypted,
            self._attempt.key,
            agent_id=self._context.plane.agent_id,
            job=(job.job_id, job.attempt),
        )
        self._stream.added.masks.add(secrets.values)
        return secrets

    def _begin_exchange(self, definition: Definition) -> JobExchange:
        context, job = self._context, self._attempt.job
        store = RemoteStore(StorageRequests(context.plane, self._attempt), context.archives, job)
        place = Place(store, self._commands, self._stream, self._folder)
        exchange = self._details.exchange
        return JobExchange(place, definition.exchange if exchange == Exchange() else exchange)

    def _keep_upload(self, report: Optional[dict[str, Any]]) -> None:
        """From now on only the upload of artifacts is missing, or of caches alone if `report` is None.

        If this process is killed, the next one goes on with that. It does without the caches.
        """
        finish = self._report(self._records.exit_code or 0, None)
        self._stream.keep_upload({"artifact": report, "name": ARTIFACTS, "finish": finish})

    def _end_processes(self) -> None:
        """End what steps have left behind: nothing may change while it is packed."""
        if self._folder.owner is not None:
            self._folder.owner.kill_processes()

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
