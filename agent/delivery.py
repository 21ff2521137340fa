"""Deliver an attempt's log and result from the spool to the control plane, in order, however long that takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Optional

from agent.attempt import ABANDON, Attempt
from agent.client import GivenUp, Refused
from agent.protocol import Assignment, ControlPlane
from agent.spool import SpooledAttempt

logger = logging.getLogger(__name__)


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
        for sequence in sequences:
            command = plane.log(attempt.job, sequence, spooled.read_chunk(sequence), stop=attempt.muted)
            spooled.delete_chunk(sequence)
            if command is not None:
                attempt.request_end(command)
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


def log_spool_failure(attempt: Attempt, error: OSError) -> None:
    """Log that the agent drops an attempt because the disk fails or is full."""
    logger.error("the agent drops %s: it cannot use its spool (%s); check the disk", attempt.job, error)


def log_refusal(attempt: Attempt, error: Refused) -> None:
    """Log why the agent drops an attempt. A stale attempt (409) is normal after a lost lease; the rest are errors."""
    if error.status == 409:
        logger.info("the agent drops %s: it no longer belongs to this agent (%s)", attempt.job, error.code)
    else:
        logger.error("the agent drops %s: the control plane refused a request for it (%s)", attempt.job, error)
