"""The records of agents: identity and configuration, last heartbeat and leases, enrolment tokens, fleet counters."""

from typing import TYPE_CHECKING

from apps.agents.models.agent import Agent, AgentKey
from apps.agents.models.fleet import FLEET, PROGRESS, FleetCounter, TaskProgress
from apps.agents.models.heartbeat import KEPT_ENDS, RUNNING_LIMIT_BYTES, Heartbeat, Lease
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.agents.models.enrolment import ENROLMENT_TOKENS, EnrolmentReceipt, EnrolmentToken

__all__ = [
    "ENROLMENT_TOKENS",
    "FLEET",
    "KEPT_ENDS",
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

# A cold start loads none of these.
__getattr__ = lazy_names(__name__, {"enrolment": ["ENROLMENT_TOKENS", "EnrolmentReceipt", "EnrolmentToken"]})
