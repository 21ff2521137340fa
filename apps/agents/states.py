"""The statuses of an agent and which may follow which, the states of a step, and an agent's limits."""

from datetime import timedelta
from enum import StrEnum


class AgentStatus(StrEnum):
    """Healthy agents send heartbeats; unhealthy and dead ones do not. Draining ones get no work."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"
    DRAINING = "draining"
    RETIRED = "retired"


# A retired agent stays retired: its machine must enrol again to come back.
TRANSITIONS: dict[AgentStatus, frozenset[AgentStatus]] = {
    AgentStatus.HEALTHY: frozenset(
        {AgentStatus.UNHEALTHY, AgentStatus.DEAD, AgentStatus.DRAINING, AgentStatus.RETIRED}
    ),
    AgentStatus.UNHEALTHY: frozenset(
        {AgentStatus.HEALTHY, AgentStatus.DEAD, AgentStatus.DRAINING, AgentStatus.RETIRED}
    ),
    AgentStatus.DEAD: frozenset({AgentStatus.HEALTHY, AgentStatus.DRAINING, AgentStatus.RETIRED}),
    AgentStatus.DRAINING: frozenset({AgentStatus.HEALTHY, AgentStatus.RETIRED}),
    AgentStatus.RETIRED: frozenset(),
}

# A heartbeat makes agents of these statuses healthy again.
SILENT = (AgentStatus.UNHEALTHY, AgentStatus.DEAD)
# Agents of these statuses get no new work.
LEAVING = (AgentStatus.DRAINING, AgentStatus.RETIRED)

# A lease ends this long after the last heartbeat that names its job.
LEASE = timedelta(seconds=45)
# An agent is healthy as long as its leases last.
UNHEALTHY_AFTER_SECONDS = int(LEASE.total_seconds())
DEAD_AFTER_SECONDS = 300

# How long an agent's previous key is accepted beside its newest one.
KEY_OVERLAP = timedelta(hours=24)

# How many jobs an agent may run at once.
MAX_SLOTS = 64


class StepState(StrEnum):
    """The state of a step of an attempt."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


def status_after_silence(status: AgentStatus, seconds: float) -> AgentStatus:
    """The status of an agent that has sent no heartbeat for so long. Draining and retired agents keep theirs."""
    if status in LEAVING or seconds <= UNHEALTHY_AFTER_SECONDS:
        return status
    if seconds > DEAD_AFTER_SECONDS:
        return AgentStatus.DEAD
    return AgentStatus.UNHEALTHY if status == AgentStatus.HEALTHY else status
