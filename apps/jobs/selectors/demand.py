"""The demand for agents: in which label sets jobs wait, and what room the healthy agents have for them."""

from collections.abc import Collection, Sequence

from apps.agents.selectors import AgentCapacity, FleetCapacity, fleet_capacity
from apps.jobs.label_sets import agent_may_take
from apps.jobs.selectors.missing_slots import missing_slots
from apps.jobs.selectors.queue import queue_figures
from controlplane.lib.frozen import frozen


@frozen
class Capacity:
    """How many healthy agents there are of a kind, their slots, and how many of these can take a job.

    `used_slots` have jobs. They may be those of agents that are draining or silent, too.
    """

    agents: int
    slots: int
    used_slots: int
    free_slots: int


@frozen
class RegionView:
    """A region: how many agents it has of each status, as of `fleet_counts`, and the capacity of the healthy ones."""

    name: str
    statuses: dict[str, int]
    capacity: Capacity


@frozen
class SetDemand:
    """A label set in which jobs wait.

    `labels` are what the jobs ask for, deployment targets among them as ``deploy:…``, and `missing_labels` those that
    no healthy agent offers. `capacity` is that of the healthy agents that could take the jobs. `slots_missing` is as of
    `apps.jobs.selectors.missing_slots`: a slot that is free for several label sets counts for one of them.
    """

    labels: tuple[str, ...]
    missing_labels: tuple[str, ...]
    waiting: int
    is_lower_bound: bool
    oldest_wait_seconds: float
    capacity: Capacity
    slots_missing: int

    @property
    def name(self) -> str:
        """The labels as one text, empty for a label set without any."""
        return ",".join(self.labels)


@frozen
class Demand:
    """The label sets in which jobs wait, those that have waited longest first, and the regions by their names.

    `capacity` is that of all agents. With `is_lower_bound`, more jobs wait than were counted; with
    `is_partial`, there may be more agents than were read.
    """

    sets: tuple[SetDemand, ...]
    regions: tuple[RegionView, ...]
    capacity: Capacity
    is_lower_bound: bool
    is_partial: bool

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(found.waiting for found in self.sets)

    @property
    def oldest_wait_seconds(self) -> float:
        """For how many seconds the oldest of these jobs has waited; 0 if none waits."""
        return max((found.oldest_wait_seconds for found in self.sets), default=0.0)

    @property
    def slots_missing(self) -> int:
        """How many slots have to be added so that all of these jobs could run now."""
        return sum(found.slots_missing for found in self.sets)

    @property
    def slots_wanted(self) -> int:
        """How many slots the agents should have in all: one for each job that they run or that waits for them.

        A job whose agent is silent counts until its lease expires, and as one that waits after that. So no outage makes
        a scaler stop machines that run jobs, and one that compares this with the machines that it has started, ready or
        not, starts none twice.
        """
        return self.capacity.used_slots + self.waiting


def demand_get(labels: Collection[str] | None = None) -> Demand:
    """The demand for agents, or for those that offer these labels, deployment targets among them as ``deploy:…``.

    With `labels`, the label sets are those whose jobs such an agent could take, and `Demand.capacity` is that of the
    agents that offer all of these labels. The regions are always whole.

    Only queued jobs count: those that wait for gates, for other jobs, or for their pipeline to be resumed are not in
    the queue. Everything may lag by moments. It costs the calls of `queue_figures` and `fleet_capacity`: one for the
    registry and one for each of at most 50 label sets; one for the fleet's counters, one for each region, and one for
    each hundred agents that are not dead or retired. The number of jobs does not matter.
    """
    queue, fleet = queue_figures(), fleet_capacity()
    lacking = missing_slots(
        [(figures.labels, figures.waiting) for figures in queue.sets],
        [(agent.labels, agent.free_slots) for agent in fleet.agents],
    )
    offered = frozenset[str]().union(*(agent.labels for agent in fleet.agents if agent.is_healthy))
    return Demand(
        sets=tuple(
            SetDemand(
                labels=tuple(sorted(figures.labels)),
                missing_labels=tuple(sorted(figures.labels - offered)),
                waiting=figures.waiting,
                is_lower_bound=figures.is_lower_bound,
                oldest_wait_seconds=figures.oldest_wait_seconds,
                capacity=_capacity_for(figures.labels, fleet),
                slots_missing=slots_missing,
            )
            for figures, slots_missing in zip(queue.sets, lacking, strict=True)
            if labels is None or agent_may_take(figures.labels, labels)
        ),
        regions=tuple(
            RegionView(name, statuses, _capacity([agent for agent in fleet.agents if agent.region == name]))
            for name, statuses in sorted(fleet.regions.items())
        ),
        capacity=_capacity_for(labels or (), fleet),
        is_lower_bound=queue.is_lower_bound,
        is_partial=fleet.is_partial,
    )


def _capacity_for(labels: Collection[str], fleet: FleetCapacity) -> Capacity:
    """The capacity of the agents that offer all of these labels."""
    return _capacity([agent for agent in fleet.agents if agent_may_take(labels, agent.labels)])


def _capacity(agents: Sequence[AgentCapacity]) -> Capacity:
    healthy = [agent for agent in agents if agent.is_healthy]
    return Capacity(
        agents=len(healthy),
        slots=sum(agent.slots for agent in healthy),
        used_slots=sum(agent.used_slots for agent in agents),
        free_slots=sum(agent.free_slots for agent in agents),
    )
