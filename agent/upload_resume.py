"""Go on with the upload of an attempt whose steps had ended when the agent was killed."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from agent.attempt import ABANDON, CANCEL, Attempt
from agent.job_archives import FAILURES
from agent.job_artifacts import not_stored, stored_line
from agent.job_context import JobContext
from agent.job_ends import Interrupted
from agent.log_stream import LogStream
from agent.log_text import seconds_since
from agent.machine import FAULT_CHARACTERS, MachineFailed
from agent.spool import SpooledAttempt
from agent.storage_requests import StorageRequests
from agent.store import Archives, RemoteStore

logger = logging.getLogger(__name__)


def resumable(spooled: SpooledAttempt, archives: Archives) -> bool:
    """Whether nothing but the upload of artifacts is missing, if that, and the archive is still there."""
    if spooled.is_finished or not spooled.has_upload:
        return False
    try:
        document = spooled.read_upload()
        is_sendable = document["artifact"] is None or archives.upload(spooled.job, document["name"]).exists()
        return is_sendable and isinstance(document["finish"], dict)
    except (OSError, ValueError, KeyError):
        return False


def upload_resume(context: JobContext, attempt: Attempt, spooled: SpooledAttempt) -> None:
    """Send what is missing of the artifacts and write the attempt's report.

    If the agent must stop, there is no report, and the next start goes on. Raises OSError.
    """
    document = spooled.read_upload()
    stream = LogStream.resume(spooled, int(document["log_chunks"]))
    finish: dict[str, Any] = document["finish"]
    archive = context.archives.upload(attempt.job, document["name"])
    attempt.set_steps(finish["steps"])
    began = time.monotonic()

    def check() -> None:
        if attempt.end_reason is not None:
            raise Interrupted(attempt.end_reason)

    try:
        if document["artifact"] is not None:
            store = RemoteStore(StorageRequests(context.plane, attempt), context.archives, attempt.job)
            store.artifact_put(archive, document["artifact"], check)
            stream.say(stored_line(document["artifact"], f"{seconds_since(began)} after a restart of the agent"))
    except Interrupted as interruption:
        if interruption.reason == ABANDON:
            archive.unlink(missing_ok=True)
        if interruption.reason != CANCEL:
            return
        finish["error_message"] = "The job was cancelled."
    except FAILURES as error:
        failure = not_stored(error)
        finish["error_message"] = str(failure)
        if isinstance(failure, MachineFailed):
            attempt.agent_fault = finish["agent_fault"] = str(failure)[:FAULT_CHARACTERS]
            finish["error_message"] = f"The machine failed: {failure}"
        stream.say(f"── {finish['error_message']}")
    stream.finish(finish)
    with suppress(OSError):
        archive.unlink()
