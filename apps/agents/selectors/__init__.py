"""Reads of the app's records. Each says how consistent it is."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.agents.selectors.agents import REGION, AgentPage, agent_get, agent_list, agents_named
    from apps.agents.selectors.candidates import Candidates, candidates_get
    from apps.agents.selectors.capacity import AgentCapacity, FleetCapacity, fleet_capacity
    from apps.agents.selectors.fleet import fleet_counts
    from apps.agents.selectors.heartbeats import fleet_heartbeats, fleet_place, heartbeats_get, silent_heartbeats
    from apps.agents.selectors.identities import (
        IDENTITY_SECONDS,
        AgentIdentity,
        IdentityKey,
        identity_forget,
        identity_get,
        key_context,
        keys_alive,
    )

__all__ = [
    "IDENTITY_SECONDS",
    "REGION",
    "AgentCapacity",
    "AgentIdentity",
    "AgentPage",
    "Candidates",
    "FleetCapacity",
    "IdentityKey",
    "agent_get",
    "agent_list",
    "agents_named",
    "candidates_get",
    "fleet_capacity",
    "fleet_counts",
    "fleet_heartbeats",
    "fleet_place",
    "heartbeats_get",
    "identity_forget",
    "identity_get",
    "key_context",
    "keys_alive",
    "silent_heartbeats",
]

# A module is imported with the first use of one of its names: a cold start needs few of them.
__getattr__ = lazy_names(
    __name__,
    {
        "agents": ["REGION", "AgentPage", "agent_get", "agent_list", "agents_named"],
        "candidates": ["Candidates", "candidates_get"],
        "capacity": ["AgentCapacity", "FleetCapacity", "fleet_capacity"],
        "fleet": ["fleet_counts"],
        "heartbeats": ["fleet_heartbeats", "fleet_place", "heartbeats_get", "silent_heartbeats"],
        "identities": [
            "IDENTITY_SECONDS",
            "AgentIdentity",
            "IdentityKey",
            "identity_forget",
            "identity_get",
            "key_context",
            "keys_alive",
        ],
    },
)
