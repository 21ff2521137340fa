"""Reads of the app's records. Each says how consistent it is."""

from apps.agents.selectors.agents import REGION, AgentPage, agent_get, agent_list
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
    "AgentIdentity",
    "AgentPage",
    "IdentityKey",
    "agent_get",
    "agent_list",
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
