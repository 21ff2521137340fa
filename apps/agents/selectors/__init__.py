"""Reads of the app's records; each says its consistency."""

from apps.agents.selectors.agents import REGION, AgentPage, agent_get, agent_list
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.selectors.heartbeats import beats_by_region, beats_get, silent_beats
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
    "beats_by_region",
    "beats_get",
    "fleet_counts",
    "identity_forget",
    "identity_get",
    "key_context",
    "keys_alive",
    "silent_beats",
]
