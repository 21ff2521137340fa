"""Reading how many agents there are."""

from apps.agents.models import FLEET, FleetCounter


def fleet_counts() -> dict[str, dict[str, int]]:
    """How many agents of each status each region has, read consistently. Those without any are absent."""
    counts: dict[str, dict[str, int]] = {}
    for counter in FleetCounter.query(FLEET, consistent_read=True):
        region, _, status = counter.key.partition("#")
        if counter.agents:
            counts.setdefault(region, {})[status] = int(counter.agents)
    return counts
