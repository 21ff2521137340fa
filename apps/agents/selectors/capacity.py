"""How many jobs the agents run, and how many more the healthy ones could take now."""

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors.agents import AGENTS_AT_MOST, agents_kept
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import AgentStatus, status_after_silence
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import labels_offered

# The agents that may have jobs. The leases of an agent have expired long before it counts as dead.
_WITH_JOBS = (AgentStatus.HEALTHY, AgentStatus.UNHEALTHY, AgentStatus.DRAINING)


@frozen
class AgentCapacity:
    """An agent that may have jobs: what it offers to jobs, and its slots.

    `free_slots` can take a job now; there are none unless the agent `is_healthy`. A slot may be neither used nor free:
    an agent reports fewer free ones while it ends, and has fewer while it must prove that its machine is fit.
    """

    region: str
    labels: frozenset[str]
    is_healthy: bool
    slots: int
    used_slots: int
    free_slots: int


@frozen
class FleetCapacity:
    """The fleet: how many agents of each status each region has, and the agents that may have jobs, by region.

    `is_partial` says that there may be more of these agents than were read.
    """

    regions: dict[str, dict[str, int]]
    agents: tuple[AgentCapacity, ...]
    is_partial: bool


def fleet_capacity() -> FleetCapacity:
    """The agents by their last heartbeats, and the counters as of `fleet_counts`.

    An agent that has been silent for longer than a lease is not healthy, although the counters may have it as such
    until the next sweep. Agents and heartbeats may lag by moments. One call for the counters, one for each region, and
    one for each hundred agents that are healthy, unhealthy or draining.
    """
    regions = fleet_counts()
    agents, is_partial = agents_kept(
        [region for region, statuses in sorted(regions.items()) if statuses.keys() & {*_WITH_JOBS}],
        keep=lambda agent: agent.status in _WITH_JOBS,
        look_at_most=AGENTS_AT_MOST,
    )
    found = Heartbeat.find_many([agent.agent_id for agent in agents], consistent=False)
    heartbeats = {heartbeat.agent_id: heartbeat for heartbeat in found}
    return FleetCapacity(
        regions=regions,
        agents=tuple(_capacity(agent, heartbeats[agent.agent_id]) for agent in agents if agent.agent_id in heartbeats),
        is_partial=is_partial,
    )


def _capacity(agent: Agent, heartbeat: Heartbeat) -> AgentCapacity:
    silence = clock.now() - clock.parse_timestamp(heartbeat.at)
    status = status_after_silence(AgentStatus(heartbeat.status), silence.total_seconds())
    slots, used = int(agent.slots), len(heartbeat.leases)
    # Jobs that it was given since are not in its report yet, and one that is about to end reports none.
    free = max(0, min(int(heartbeat.free_slots), heartbeat.lease_limit(slots) - used))
    return AgentCapacity(
        region=agent.region,
        labels=frozenset(labels_offered(agent.labels, agent.deployment_targets)),
        is_healthy=status == AgentStatus.HEALTHY,
        slots=slots,
        used_slots=used,
        free_slots=free if status == AgentStatus.HEALTHY else 0,
    )
