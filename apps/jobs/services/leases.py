"""Taking jobs away from agents that send no heartbeats."""

from datetime import timedelta

from apps.agents.selectors import silent_heartbeats
from apps.jobs.models import LEASES, SETS, QueueSet
from apps.jobs.services.losses import attempt_expire
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.nosql.connection import ConditionFailed

# A lease lasts this long after the last heartbeat that names the job.
LEASE = timedelta(seconds=45)

# How often the agents' polls look for expired leases, all processes together. The lease, this interval and a poll
# together stay below the 90 seconds within which the job of a killed agent waits again.
_LOOK_EVERY = timedelta(seconds=20)


def leases_expire() -> int:
    """Take every job away from agents that have sent no heartbeat for longer than a lease. Returns how many."""
    expired = 0
    for heartbeat in silent_heartbeats(silent_for=LEASE):
        for job_id, lease in heartbeat.leases.items():
            expired += attempt_expire(
                agent_id=heartbeat.agent_id,
                job_id=job_id,
                attempt=lease.attempt,
                heartbeat_at=heartbeat.at,
                reason=f"its agent sent no heartbeat for {LEASE.seconds} s",
            )
    return expired


def leases_look(*, looked_at: str | None) -> int:
    """Do the same between two sweeps, for a poll that has read from the registry when that was last done.

    Does nothing unless that is long enough ago, and no other poll was faster.
    """
    now = clock.now()
    if looked_at is not None and now - clock.parse_timestamp(looked_at) < _LOOK_EVERY:
        return 0
    as_seen = QueueSet.looked_at == looked_at if looked_at else QueueSet.looked_at.does_not_exist()
    try:
        QueueSet(SETS, LEASES).update(actions=[QueueSet.looked_at.set(clock.timestamp(now))], condition=as_seen)
        return leases_expire()
    except (ConditionFailed, Unavailable):
        # Another poll was faster; or DynamoDB fails, which is no reason to fail the agent that asks: the sweep looks
        # as well.
        return 0
