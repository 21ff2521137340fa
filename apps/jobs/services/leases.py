"""Expiring the leases of agents that send no heartbeats."""

import logging
import math
from datetime import timedelta

from apps.agents.services import silent_portion
from apps.agents.states import LEASE
from apps.jobs.models import LEASES, SETS, QueueSet
from apps.jobs.services.losses import attempt_expire
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import ItemTooLarge

logger = logging.getLogger(__name__)

# How often the agents' polls search for expired leases, all processes together. The lease, this interval and a poll
# together stay below the 90 seconds within which the job of a killed agent must be queued again.
_LOOK_EVERY = timedelta(seconds=20)
# For how long a poll expires leases, since its agent waits for the answer. The sweep and later polls go on.
_LOOK_SECONDS = 2


def leases_expire(*, seconds: float = math.inf) -> int:
    """Expire all leases of agents that have sent no heartbeat for longer than a lease. Returns their number.

    It takes at most so many seconds, and the next call goes on where this one stopped.
    """
    expired = 0
    for heartbeat in silent_portion("leases_expire", silent_for=LEASE, seconds=seconds):
        for job_id, lease in heartbeat.leases.items():
            try:
                expired += attempt_expire(
                    agent_id=heartbeat.agent_id,
                    job_id=job_id,
                    attempt=lease.attempt,
                    heartbeat_at=heartbeat.at,
                    reason=f"its agent sent no heartbeat for {LEASE.seconds} s",
                )
            except ItemTooLarge:
                # One job must not hold up the others for ever.
                logger.exception("a lease was not expired", extra={"job_id": job_id})
    return expired


def leases_look(*, looked_at: str | None) -> int:
    """Expire leases in an agent's poll, between two sweeps. `looked_at` is the time of the last search in the registry.

    It does nothing if that search is recent, or if another poll is faster.
    """
    now = clock.now()
    if looked_at is not None and now - clock.parse_timestamp(looked_at) < _LOOK_EVERY:
        return 0
    as_seen = QueueSet.looked_at == looked_at if looked_at else QueueSet.looked_at.does_not_exist()
    try:
        QueueSet(SETS, LEASES).update(actions=[QueueSet.looked_at.set(clock.timestamp(now))], condition=as_seen)
        return leases_expire(seconds=_LOOK_SECONDS)
    except (ConditionFailed, Unavailable):
        # Another poll was faster, or DynamoDB failed. Neither must fail the agent's request, since the sweep searches
        # too.
        return 0
