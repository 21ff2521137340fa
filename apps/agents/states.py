"""The statuses of an agent and which may follow which, the states of a step, and an agent's limits."""

from datetime import timedelta
from enum import StrEnum


class AgentStatus(StrEnum):
    """Healthy agents send heartbeats; dead ones do not, nor do unhealthy ones, unless their machines are unfit.

    Only healthy agents get work.
    """

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
    AgentStatus.DEAD: frozenset(
        {AgentStatus.HEALTHY, AgentStatus.UNHEALTHY, AgentStatus.DRAINING, AgentStatus.RETIRED}
    ),
    AgentStatus.DRAINING: frozenset({AgentStatus.HEALTHY, AgentStatus.RETIRED}),
    AgentStatus.RETIRED: frozenset(),
}

# A heartbeat makes agents of these statuses healthy again, unless their machines are unfit.
SILENT = (AgentStatus.UNHEALTHY, AgentStatus.DEAD)
# Agents of these statuses get no new work.
LEAVING = (AgentStatus.DRAINING, AgentStatus.RETIRED)

# A lease ends this long after the last heartbeat that names its job.
LEASE = timedelta(seconds=45)
# An agent is healthy as long as its leases last.
UNHEALTHY_AFTER_SECONDS = int(LEASE.total_seconds())
DEAD_AFTER_SECONDS = 300

# A machine whose disk is this full gets no work, until the disk has a little more room again.
DISK_FULL_PERCENT = 95
DISK_ROOM_PERCENT = 93
# After so many failures of the machine in a row, or offers in a row that it did not start, an agent gets no work for a
# while, and then one job at a time until one has run.
MOST_IN_A_ROW = 3
PAUSE = timedelta(minutes=5)

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
