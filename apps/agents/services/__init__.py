"""Everything that changes agents. Each service is one conditional write or one transaction."""

from typing import TYPE_CHECKING

from apps.agents.models import Lease
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.agents.services.configuration import agent_configure
    from apps.agents.services.enrolment import agent_enrol, enrolment_token_require
    from apps.agents.services.enrolment_tokens import enrolment_token_create, enrolment_token_revoke
    from apps.agents.services.heartbeats import HeartbeatResult, heartbeat_record
    from apps.agents.services.keys import AgentCredentials, agent_key_mark_used, agent_key_rotate
    from apps.agents.services.leases import (
        PLAIN_END,
        End,
        LeaseEnd,
        lease_add,
        lease_limit,
        lease_remove,
        lease_request_cancel,
        lease_restore,
        lease_start,
    )
    from apps.agents.services.lifecycle import agent_drain, agent_resume, agent_retire
    from apps.agents.services.portions import portion
    from apps.agents.services.removals import retired_agents_delete
    from apps.agents.services.silence import agents_mark_silent

__all__ = [
    "PLAIN_END",
    "AgentCredentials",
    "End",
    "HeartbeatResult",
    "Lease",
    "LeaseEnd",
    "agent_configure",
    "agent_drain",
    "agent_enrol",
    "agent_key_mark_used",
    "agent_key_rotate",
    "agent_resume",
    "agent_retire",
    "agents_mark_silent",
    "enrolment_token_create",
    "enrolment_token_require",
    "enrolment_token_revoke",
    "heartbeat_record",
    "lease_add",
    "lease_limit",
    "lease_remove",
    "lease_request_cancel",
    "lease_restore",
    "lease_start",
    "portion",
    "retired_agents_delete",
]

# A module is imported with the first use of one of its names: a cold start needs few of them.
__getattr__ = lazy_names(
    __name__,
    {
        "configuration": ["agent_configure"],
        "enrolment": ["agent_enrol", "enrolment_token_require"],
        "enrolment_tokens": ["enrolment_token_create", "enrolment_token_revoke"],
        "heartbeats": ["HeartbeatResult", "heartbeat_record"],
        "keys": ["AgentCredentials", "agent_key_mark_used", "agent_key_rotate"],
        "leases": [
            "PLAIN_END",
            "End",
            "LeaseEnd",
            "lease_add",
            "lease_limit",
            "lease_remove",
            "lease_request_cancel",
            "lease_restore",
            "lease_start",
        ],
        "lifecycle": ["agent_drain", "agent_resume", "agent_retire"],
        "portions": ["portion"],
        "removals": ["retired_agents_delete"],
        "silence": ["agents_mark_silent"],
    },
)
