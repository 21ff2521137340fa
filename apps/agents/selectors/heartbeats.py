"""Reading heartbeats, which hold the leases of their agents."""

from collections.abc import Iterable, Iterator

from apps.agents.models import Heartbeat
from apps.agents.selectors.agents import agents_by_region
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import AgentStatus
from controlplane.nosql.listing import Place


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
