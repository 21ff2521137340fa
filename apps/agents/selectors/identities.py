"""Whose key signs a request: what a process remembers of agents for up to a minute."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from apps.agents.models import Agent
from apps.agents.states import KEY_OVERLAP
from controlplane.lib import clock
from controlplane.lib.envelope import decrypt

# How long a process trusts what it read of an agent's keys, labels and status.
IDENTITY_SECONDS = 60
_IDENTITIES_AT_MOST = 10_000


@dataclass(frozen=True)
class IdentityKey:
    """A key with which an agent signs."""

    key_id: str
    secret: bytes = field(repr=False)
    used: bool


@dataclass(frozen=True)
class AgentIdentity:
    """Who an agent is, as its requests need it: up to a minute old, without another read. `keys` are those alive."""

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

    def key(self, key_id: str) -> IdentityKey | None:
        """The key of this id, if the agent has it."""
        return next((key for key in self.keys if key.key_id == key_id), None)


class _Identities:
    """What this process read of agents in the last minute; the oldest goes when there are too many."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, AgentIdentity] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, agent_id: str) -> AgentIdentity | None:
        with self._lock:
            entry = self._entries.get(agent_id)
            return entry if entry and 0 <= clock.epoch() - entry.read_at < IDENTITY_SECONDS else None

    def put(self, entry: AgentIdentity) -> None:
        with self._lock:
            self._entries[entry.agent_id] = entry
            self._entries.move_to_end(entry.agent_id)
            if len(self._entries) > _IDENTITIES_AT_MOST:
                self._entries.popitem(last=False)

    def drop(self, agent_id: str) -> None:
        with self._lock:
            self._entries.pop(agent_id, None)


_identities = _Identities()


def identity_get(agent_id: str, key_id: str) -> AgentIdentity | None:
    """The agent whose key this may be. Costs one read a minute, and one whenever the key is not among those known."""
    known = _identities.get(agent_id)
    return known if known and known.key(key_id) else _identity_read(agent_id)


def identity_forget(agent_id: str) -> None:
    """Called after a change: the next request reads the agent again. Other processes notice within a minute."""
    _identities.drop(agent_id)


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
    _identities.put(identity)
    return identity


def keys_alive(agent: Agent) -> tuple[IdentityKey, ...]:
    """The agent's keys that are accepted now, decrypted: the newest, and for 24 hours the one before it."""
    keys = list(agent.keys)
    if keys and clock.now() - clock.parse_timestamp(keys[0].created_at) >= KEY_OVERLAP:
        keys = keys[:1]
    return tuple(
        IdentityKey(key.key_id, decrypt(key.encrypted, context=key_context(agent.agent_id, key.key_id)), bool(key.used))
        for key in keys
    )


def key_context(agent_id: str, key_id: str) -> tuple[str, ...]:
    """The place that an agent's encrypted key is bound to."""
    return ("agent-key", agent_id, key_id)
