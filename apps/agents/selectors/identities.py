"""Agent identities: the keys, labels and status of agents that a process remembers for up to a minute."""

import threading
from contextlib import suppress
from dataclasses import field

from cachetools import TLRUCache

from apps.agents.models import Agent
from apps.agents.states import KEY_OVERLAP
from controlplane.lib import clock
from controlplane.lib.envelope import decrypt
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import labels_offered

# How long a process uses the keys, labels and status that it has read of an agent.
IDENTITY_SECONDS = 60
_IDENTITIES_AT_MOST = 10_000


@frozen
class IdentityKey:
    """A key with which an agent signs."""

    key_id: str
    secret: bytes = field(repr=False)
    used: bool


@frozen
class AgentIdentity:
    """An agent as its own requests need it, up to a minute old. `keys` are those that are accepted now."""

    agent_id: str
    name: str
    region: str
    labels: tuple[str, ...]
    slots: int
    deployment_targets: tuple[str, ...]
    status: str
    config_version: int
    keys: tuple[IdentityKey, ...] = field(repr=False)
    read_at: int = field(repr=False)

    @property
    def labels_offered(self) -> tuple[str, ...]:
        """The labels by which jobs find the agent: its own, and one for each of its deployment targets."""
        return labels_offered(self.labels, self.deployment_targets)

    def key(self, key_id: str) -> IdentityKey | None:
        """The key of this id, if the agent has it."""
        return next((key for key in self.keys if key.key_id == key_id), None)


_identities: TLRUCache[str, AgentIdentity] = TLRUCache(
    _IDENTITIES_AT_MOST,
    # An identity is as old as the read that it comes from.
    ttu=lambda _agent_id, identity, _now: identity.read_at + IDENTITY_SECONDS,
    timer=clock.epoch,
)
_lock = threading.Lock()


def identity_get(agent_id: str, key_id: str) -> AgentIdentity | None:
    """The agent, or None if it does not exist. Check with `AgentIdentity.key` that it has the key.

    Costs one read a minute, and one more for each key that is not among the remembered ones.
    """
    with _lock:
        known = _identities.get(agent_id)
    # A clock that was set back says nothing about how old an identity is.
    is_usable = known is not None and known.read_at <= clock.epoch() and known.key(key_id) is not None
    return known if is_usable else _identity_read(agent_id)


def identity_forget(agent_id: str) -> None:
    """Read the agent again for its next request, since it has changed. Other processes notice within a minute."""
    # Unlike `pop`, this also removes an entry that has expired, which a clock that is set back would revive.
    with _lock, suppress(KeyError):
        del _identities[agent_id]


def _identity_read(agent_id: str) -> AgentIdentity | None:
    read_at = clock.epoch()
    agent = Agent.find(agent_id)
    if agent is None:
        return None
    identity = AgentIdentity(
        agent_id=agent.agent_id,
        name=agent.name,
        region=agent.region,
        labels=tuple(agent.labels),
        slots=int(agent.slots),
        deployment_targets=tuple(agent.deployment_targets),
        status=agent.status,
        config_version=int(agent.config_version),
        keys=keys_alive(agent),
        read_at=read_at,
    )
    with _lock:
        _identities[agent_id] = identity
    return identity


def keys_alive(agent: Agent) -> tuple[IdentityKey, ...]:
    """The agent's accepted keys, decrypted: the newest, and the previous one for 24 hours after the newest was made."""
    keys = list(agent.keys)
    if keys and clock.now() - clock.parse_timestamp(keys[0].created_at) >= KEY_OVERLAP:
        keys = keys[:1]
    return tuple(
        IdentityKey(key.key_id, decrypt(key.encrypted, context=key_context(agent.agent_id, key.key_id)), bool(key.used))
        for key in keys
    )


def key_context(agent_id: str, key_id: str) -> tuple[str, ...]:
    """The context that an agent's encrypted key is bound to."""
    return ("agent-key", agent_id, key_id)
