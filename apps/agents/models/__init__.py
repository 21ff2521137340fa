"""The records of agents: identity and configuration, last heartbeat and leases, enrolment tokens, fleet counters."""

from apps.agents.models.agent import Agent, AgentKey
from apps.agents.models.enrolment import ENROLMENT_TOKENS, EnrolmentReceipt, EnrolmentToken
from apps.agents.models.fleet import FLEET, PROGRESS, FleetCounter, TaskProgress
from apps.agents.models.heartbeat import RUNNING_LIMIT_BYTES, Heartbeat, Lease

__all__ = [
    "ENROLMENT_TOKENS",
    "FLEET",
    "PROGRESS",
    "RUNNING_LIMIT_BYTES",
    "Agent",
    "AgentKey",
    "EnrolmentReceipt",
    "EnrolmentToken",
    "FleetCounter",
    "Heartbeat",
    "Lease",
    "TaskProgress",
]
