"""The life of one attempt: start it, run it while its log is delivered, report it, and remove its files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Optional

from agent.attempt import ABANDON, Attempt
from agent.client import GivenUp, Refused
from agent.delivery import deliver, log_refusal, log_spool_failure
from agent.job_context import JobContext
from agent.job_folder import JobFolder
from agent.job_run import JobRun
from agent.log_stream import LIMIT_BYTES, LogStream
from agent.log_text import one_line
from agent.machine import FAULT_CHARACTERS
from agent.protocol import Assignment
from agent.step_users import StepUser

logger = logging.getLogger(__name__)


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
        details = context.plane.start(attempt.job, secrets_key=attempt.key.public, stop=attempt.ending)
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
    name = f"{attempt.job.job_id}.{attempt.job.attempt}"
    private = None if context.private_dir is None else context.private_dir / name
    folder = JobFolder(context.work_dir / name, owner, private=private)
    try:
        report = JobRun(context, attempt, details, stream, folder).report()
        if attempt.end_reason == ABANDON:
            stream.abandon()
        else:
            stream.finish(report)
            logger.info("%s ended: %s", attempt.job, one_line((report["error_message"] or "completed").split("\n")[0]))
    except OSError as error:
        log_spool_failure(attempt, error)
        attempt.request_end(ABANDON)
        stream.abandon()
    folder.remove()
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
