"""Reading agents. Single agents and beats are read consistently; lists come from an index that lags by moments."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from apps.agents.models import FLEET, Agent, Beat, FleetCounter
from apps.agents.states import KEY_OVERLAP, UNHEALTHY_AFTER_SECONDS, AgentStatus
from controlplane.lib import clock
from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.envelope import unseal
from controlplane.lib.errors import InvalidInput, NotFound

REGION = re.compile(r"[A-Za-z0-9._-]{1,63}")

# DynamoDB reads at most this many items in one BatchGet.
_BATCH = 100
# How many agents one page of a list may look at when a filter matches few of them; the cursor then goes on from there.
_LOOK_AT_MOST = 2_000

# How long a process trusts what it read of an agent's keys, labels and status.
IDENTITY_SECONDS = 60
_IDENTITIES_AT_MOST = 10_000


def agent_get(agent_id: str) -> Agent:
    """The agent, read consistently. Raises NotFound."""
    agent = Agent.find(agent_id)
    if agent is None:
        raise NotFound("There is no such agent.", code="agent_not_found")
    return agent


@dataclass(frozen=True)
class AgentPage:
    """A page of a list, by region and then by age. `total` counts all that match; `fleet` is as of `fleet_counts`."""

    agents: list[Agent]
    total: int
    next_cursor: str | None
    fleet: dict[str, dict[str, int]]


def agent_list(
    *, region: str | None = None, status: str | None = None, limit: int = 50, cursor: str | None = None
) -> AgentPage:
    """A page of the agents of a region or of all, with a stored status or any; the agents' keys are left out.

    A page may be shorter than `limit` and still have a next one. Raises InvalidInput (field "region", "status" or
    "cursor").
    """
    if region is not None and not REGION.fullmatch(region):
        raise InvalidInput.field("region", "is 1 to 63 letters, digits, dots, dashes and underscores")
    if status is not None and status not in set(AgentStatus):
        raise InvalidInput.field("status", f"is one of {', '.join(AgentStatus)}")
    scope = json.dumps(["agents", region, status])
    after = cursor_decode(scope, cursor) if cursor else None
    fleet = fleet_counts()
    matching = {
        name: sum(count for counted, count in counts.items() if status in (None, counted))
        for name, counts in sorted(fleet.items())
        if region in (None, name)
    }
    agents, last = _page([name for name, count in matching.items() if count], status, limit, after)
    return AgentPage(
        agents=agents,
        total=sum(matching.values()),
        next_cursor=cursor_encode(scope, last) if last else None,
        fleet=fleet,
    )


def _page(
    regions: Iterable[str], status: str | None, limit: int, after: dict[str, str] | None
) -> tuple[list[Agent], dict[str, str] | None]:
    """Up to `limit` agents after the place `after`, and the place to go on from if there may be more."""
    found: list[Agent] = []
    looked_at = 0
    for agents in _agents(regions, after):
        for agent in agents:
            if status not in (None, agent.status):
                continue
            if len(found) == limit:
                return found, _place(found[-1])
            found.append(agent)
        looked_at += len(agents)
        if looked_at >= _LOOK_AT_MOST:
            return found, _place(agents[-1])
    return found, None


def _place(agent: Agent) -> dict[str, str]:
    return {"region": agent.region, "agent_id": agent.agent_id}


def _agents(regions: Iterable[str], after: dict[str, str] | None = None) -> Iterator[list[Agent]]:
    """The agents of these regions in lists of at most 100, those after the place `after`."""
    for region in regions:
        if after and region < after["region"]:
            continue
        start = {name: {"S": text} for name, text in after.items()} if after and region == after["region"] else None
        pages = Agent.by_region.query(region, page_size=_BATCH, last_evaluated_key=start).page_iter
        for page in pages:
            if page["Items"]:
                yield [Agent.from_raw_data(item) for item in page["Items"]]


def beats_get(agent_ids: Iterable[str]) -> dict[str, Beat]:
    """The last heartbeats of these agents by their ids, read consistently; unknown agents are left out."""
    return {beat.agent_id: beat for beat in Beat.find_many(set(agent_ids))}


def beats_by_region() -> Iterator[tuple[str, list[Beat]]]:
    """All heartbeats, at most 100 at a time with their region.

    They may lag by moments: whoever acts on one makes it a condition that `at` is still the same.
    """
    for region in sorted(fleet_counts()):
        for agents in _agents([region]):
            yield region, Beat.find_many((agent.agent_id for agent in agents), consistent=False)


def silent_beats(*, silent_for: timedelta = timedelta(seconds=UNHEALTHY_AFTER_SECONDS)) -> Iterator[Beat]:
    """The heartbeats of agents that hold jobs and have been silent for longer than this (they may lag by moments)."""
    before = clock.timestamp(clock.now() - silent_for)
    for _, beats in beats_by_region():
        yield from (beat for beat in beats if beat.at < before and beat.holdings)


def fleet_counts() -> dict[str, dict[str, int]]:
    """How many agents each region has of each status, read consistently. Those without any are absent."""
    counts: dict[str, dict[str, int]] = {}
    for counter in FleetCounter.query(FLEET, consistent_read=True):
        region, _, status = counter.key.partition("#")
        if counter.agents:
            counts.setdefault(region, {})[status] = int(counter.agents)
    return counts


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
    """The agent's keys that are accepted now, unsealed: the newest, and for 24 hours the one before it."""
    keys = list(agent.keys)
    if keys and clock.now() - clock.parse_timestamp(keys[0].created_at) >= KEY_OVERLAP:
        keys = keys[:1]
    return tuple(
        IdentityKey(key.key_id, unseal(key.sealed, context=key_context(agent.agent_id, key.key_id)), bool(key.used))
        for key in keys
    )


def key_context(agent_id: str, key_id: str) -> tuple[str, ...]:
    """The place that an agent's sealed key is bound to."""
    return ("agent-key", agent_id, key_id)
