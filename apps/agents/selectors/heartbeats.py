"""Reading heartbeats, which hold the leases of their agents."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from apps.agents.models import Heartbeat
from apps.agents.selectors.agents import agents_by_region
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import UNHEALTHY_AFTER_SECONDS
from controlplane.lib import clock


def heartbeats_get(agent_ids: Iterable[str]) -> dict[str, Heartbeat]:
    """The last heartbeats of these agents, by agent id, read consistently. Unknown agents are left out."""
    return {heartbeat.agent_id: heartbeat for heartbeat in Heartbeat.find_many(set(agent_ids))}


def heartbeats_by_region() -> Iterator[tuple[str, list[Heartbeat]]]:
    """All heartbeats, at most 100 at a time with their region.

    They may lag by moments: a write that depends on one must have the condition that `at` is still the same.
    """
    for region in sorted(fleet_counts()):
        for agents in agents_by_region([region]):
            yield region, Heartbeat.find_many((agent.agent_id for agent in agents), consistent=False)


def silent_heartbeats(*, silent_for: timedelta = timedelta(seconds=UNHEALTHY_AFTER_SECONDS)) -> Iterator[Heartbeat]:
    """The heartbeats of agents that have leases and sent no heartbeat for longer than this. They may lag by moments."""
    before = clock.timestamp(clock.now() - silent_for)
    for _, heartbeats in heartbeats_by_region():
        yield from (heartbeat for heartbeat in heartbeats if heartbeat.at < before and heartbeat.leases)
