"""Reading heartbeats, and with them the leases."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from apps.agents.models import Beat
from apps.agents.selectors.agents import agents_by_region
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import UNHEALTHY_AFTER_SECONDS
from controlplane.lib import clock


def beats_get(agent_ids: Iterable[str]) -> dict[str, Beat]:
    """The last heartbeats of these agents by their ids, read consistently; unknown agents are left out."""
    return {beat.agent_id: beat for beat in Beat.find_many(set(agent_ids))}


def beats_by_region() -> Iterator[tuple[str, list[Beat]]]:
    """All heartbeats, at most 100 at a time with their region.

    They may lag by moments: whoever acts on one makes it a condition that `at` is still the same.
    """
    for region in sorted(fleet_counts()):
        for agents in agents_by_region([region]):
            yield region, Beat.find_many((agent.agent_id for agent in agents), consistent=False)


def silent_beats(*, silent_for: timedelta = timedelta(seconds=UNHEALTHY_AFTER_SECONDS)) -> Iterator[Beat]:
    """The heartbeats of agents that hold jobs and have been silent for longer than this (they may lag by moments)."""
    before = clock.timestamp(clock.now() - silent_for)
    for _, beats in beats_by_region():
        yield from (beat for beat in beats if beat.at < before and beat.holdings)
