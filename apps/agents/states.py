"""What an agent can be, and what may become of it."""

import re
from datetime import timedelta
from enum import StrEnum


class AgentStatus(StrEnum):
    """Healthy agents send heartbeats; unhealthy and dead ones do not. Draining ones get no work."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"
    DRAINING = "draining"
    RETIRED = "retired"


# Retirement is for good: whoever wants the machine back enrols it again.
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

# A heartbeat brings these back to healthy.
SILENT = (AgentStatus.UNHEALTHY, AgentStatus.DEAD)
# These are given no new work.
LEAVING = (AgentStatus.DRAINING, AgentStatus.RETIRED)

# A lease, and an agent's good health, last this long after a heartbeat.
UNHEALTHY_AFTER_SECONDS = 45
DEAD_AFTER_SECONDS = 300

# How long the key before the newest is still accepted.
KEY_OVERLAP = timedelta(hours=24)

# What jobs may ask an agent for, and how much an agent may offer.
LABEL = re.compile(r"[A-Za-z0-9._:/=-]{1,63}")
MAX_LABELS = 20
MAX_SLOTS = 64

# What a step of a running job can be, each with the letter under which a heartbeat's record keeps it.
STEP_STATES = {
    "pending": "p",
    "running": "r",
    "completed": "c",
    "failed": "f",
    "timed_out": "t",
    "cancelled": "x",
    "skipped": "s",
}


def status_after_silence(status: AgentStatus, seconds: float) -> AgentStatus:
    """What an agent of this status is once it has been silent for so long. Draining and retired agents stay that."""
    if status in LEAVING or seconds <= UNHEALTHY_AFTER_SECONDS:
        return status
    if seconds > DEAD_AFTER_SECONDS:
        return AgentStatus.DEAD
    return AgentStatus.UNHEALTHY if status == AgentStatus.HEALTHY else status
