"""Reading heartbeats, which contain the leases of their agents."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from apps.agents.models import Heartbeat
from apps.agents.selectors.agents import agents_by_region
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import LEASE, AgentStatus
from controlplane.lib import clock
from controlplane.nosql.listing import Place

# When most agents fell silent together, the cause is rather the network or the control plane than the machines. Their
# leases then last longer. Fewer agents than this are no majority to reckon with.
MASS_LEASE = timedelta(seconds=180)
_MASS_AT_LEAST = 3


def heartbeats_get(agent_ids: Iterable[str]) -> dict[str, Heartbeat]:
    """The last heartbeats of these agents, by agent id, read consistently. Unknown agents are left out."""
    return {heartbeat.agent_id: heartbeat for heartbeat in Heartbeat.find_many(set(agent_ids))}


def fleet_heartbeats(
    start: Place | None = None, *, status: AgentStatus | None = None
) -> Iterator[tuple[str, list[Heartbeat]]]:
    """The heartbeats of all agents, or of those with a status, at most 100 at a time with their region.

    In the order of `fleet_place`, after the place `start`. They may lag by moments: a write that depends on one must
    have the condition that `at` is still the same.
    """
    for agents in agents_by_region(sorted(fleet_counts()), start=start):
        wanted = [agent.agent_id for agent in agents if status in (None, agent.status)]
        found = Heartbeat.find_many(wanted, consistent=False)
        if found:
            yield agents[0].region, sorted(found, key=lambda heartbeat: str(heartbeat.agent_id))


def fleet_place(heartbeat: Heartbeat, region: str) -> Place:
    """The place of an agent of this region in the order of `fleet_heartbeats`."""
    return {"region": region, "agent_id": heartbeat.agent_id}


def silent_heartbeats(*, heard_since: datetime | None = None) -> list[Heartbeat]:
    """The heartbeats of agents that have leases and were silent for longer than a lease. They may lag by moments.

    Their silence counts from `heard_since` on: before that, no agent was heard. When most of the fleet fell silent
    together, only those are in the result that were silent for longer than `MASS_LEASE`.
    """
    now = clock.now()
    fleet = [heartbeat for _, heartbeats in fleet_heartbeats() for heartbeat in heartbeats]
    silences = {heartbeat.agent_id: _silence(heartbeat, heard_since, now) for heartbeat in fleet}
    limit = _limit_of([silences[heartbeat.agent_id] for heartbeat in fleet if heartbeat.status != AgentStatus.RETIRED])
    return [heartbeat for heartbeat in fleet if heartbeat.leases and silences[heartbeat.agent_id] > limit]


def _silence(heartbeat: Heartbeat, heard_since: datetime | None, now: datetime) -> timedelta:
    heard_at = clock.parse_timestamp(heartbeat.at)
    return now - (max(heard_at, heard_since) if heard_since else heard_at)


def _limit_of(silences: Sequence[timedelta]) -> timedelta:
    """For how long an agent must be silent to lose its leases, given how long each agent is silent."""
    heard = sum(silence <= LEASE for silence in silences)
    lately = sorted(silence for silence in silences if LEASE < silence <= MASS_LEASE)
    together = sum(silence <= lately[0] + LEASE for silence in lately)
    return MASS_LEASE if together >= _MASS_AT_LEAST and together > heard else LEASE
