"""Deliver an attempt's log and result from the spool to the control plane, in order, however long that takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Optional

from agent.attempt import ABANDON, Attempt
from agent.client import GivenUp, Refused
from agent.log_stream import LogStream
from agent.protocol import Assignment, ControlPlane
from agent.spool import SpooledAttempt

logger = logging.getLogger(__name__)

# Refusals that concern one chunk only. A job must not fail for its log, so the agent goes on with the next chunk.
_CHUNK_REFUSALS = ("log_chunk_conflict", "log_chunk_too_large")


def deliver(
    plane: ControlPlane,
    attempt: Attempt,
    spooled: SpooledAttempt,
    sequences: Iterator[int],
    wants_next: Callable[[], bool],
) -> Optional[Assignment]:
    """Send the chunks that `sequences` names and then the report.

    Returns the next job if `wants_next` says that the agent takes one and the control plane has one. Cancel requests
    that come with the answers go to `attempt`. If the control plane refuses a chunk or the report, or the spool fails,
    the attempt is abandoned. If `attempt` is muted, the rest stays in the spool.
    """
    try:
        _deliver_chunks(plane, attempt, spooled, sequences)
        if attempt.muted.is_set():
            return None
        following = plane.finish(attempt.job, spooled.read_report(), wants_next=wants_next(), stop=attempt.muted)
        spooled.remove()
        return following
    except GivenUp:
        return None
    except Refused as error:
        log_refusal(attempt, error)
    except OSError as error:
        log_spool_failure(attempt, error)
    attempt.request_end(ABANDON)
    return None


def deliver_interrupted(plane: ControlPlane, attempt: Attempt, spooled: SpooledAttempt) -> None:
    """Send what an attempt printed before an earlier run of this agent was killed. The attempt itself is abandoned.

    If `attempt` is muted, the rest stays in the spool.
    """
    try:
        LogStream.recover(spooled)
        _deliver_chunks(plane, attempt, spooled, spooled.sequences())
        if attempt.muted.is_set():
            return
        logger.info("the control plane has what %s printed before the agent was killed", attempt.job)
    except GivenUp:
        return
    except Refused as error:
        log_refusal(attempt, error)
    except OSError as error:
        log_spool_failure(attempt, error)
    attempt.request_end(ABANDON)


def _deliver_chunks(plane: ControlPlane, attempt: Attempt, spooled: SpooledAttempt, sequences: Iterator[int]) -> None:
    """Send the chunks that `sequences` names. Raises GivenUp, Refused and OSError."""
    for sequence in sequences:
        command = None
        try:
            data, times = spooled.read_chunk(sequence), partial(spooled.chunk_times, sequence)
            command = plane.log(attempt.job, sequence, data, times=times, stop=attempt.muted)
        except Refused as error:
            if error.code not in _CHUNK_REFUSALS:
                raise
            logger.warning("chunk %d of the log of %s is lost: %s", sequence, attempt.job, error)
        spooled.delete_chunk(sequence)
        if command is not None:
            attempt.request_end(command)


def log_spool_failure(attempt: Attempt, error: OSError) -> None:
    """Log that the agent drops an attempt because the disk fails or is full."""
    logger.error("the agent drops %s: it cannot use its spool (%s); check the disk", attempt.job, error)


def log_refusal(attempt: Attempt, error: Refused) -> None:
    """Log why the agent drops an attempt. A stale attempt (409) is normal after a lost lease; the rest are errors."""
    if error.status == 409:
        logger.info("the agent drops %s: it no longer belongs to this agent (%s)", attempt.job, error.code)
    else:
        logger.error("the agent drops %s: the control plane refused a request for it (%s)", attempt.job, error)
