"""Bringing an attempt's log and result from the spool to the control plane, in order, however long it takes."""

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
    """Send the chunks that `sequences` names and then the report. Returns the next job, if one is wanted and waits.

    Wishes that come with the answers are passed on to `attempt`. An attempt that the control plane does not take any
    more is abandoned; when `attempt` is muted, what is left stays in the spool.
    """
    try:
        for sequence in sequences:
            command = plane.log(attempt.job, sequence, spooled.read_chunk(sequence), stop=attempt.muted)
            spooled.delete_chunk(sequence)
            if command is not None:
                attempt.want(command)
        if attempt.muted.is_set():
            return None
        following = plane.finish(attempt.job, spooled.read_report(), wants_next=wants_next(), stop=attempt.muted)
        spooled.remove()
        return following
    except GivenUp:
        return None
    except Refused as error:
        tell_refusal(attempt, error)
    except OSError as error:
        logger.error("%s is dropped, the spool cannot be used: %s", attempt.job, error)
    attempt.want(ABANDON)
    return None


def tell_refusal(attempt: Attempt, error: Refused) -> None:
    """Say why an attempt is dropped: being stale (409) is part of the trade, anything else is not."""
    if error.status == 409:
        logger.info("%s is not this agent's any more (%s)", attempt.job, error.code)
    else:
        logger.error("%s is dropped, the control plane refuses it: %s", attempt.job, error)
