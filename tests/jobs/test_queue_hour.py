"""An hour of a queue with twenty label sets and mixed priorities: no job starts before a more urgent one."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import jobs_claim
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.jobs.conftest import MakeAgent
from tests.properties.consistency import Everything

LABELS = [f"l{number:02d}" for number in range(20)]
PRIORITIES = [10] * 6 + [50] * 3 + [100]
# Seconds between two polls of an agent with a free slot.
POLL = 15


@dataclass
class _Job:
    job_id: str
    label: str
    priority: int
    created: int

    @property
    def turn(self) -> tuple[int, int, str]:
        return -self.priority, self.created, self.job_id


@dataclass
class _Agent:
    actor: Actor
    labels: list[str]
    # When each of its running jobs ends, in seconds from the beginning.
    ends: list[int] = field(default_factory=list)


@dataclass
class Simulation:
    """Six agents with four slots, all labels or half of them, and jobs in rushes of two minutes every ten."""

    make_job: Callable[..., str]
    agents: list[_Agent]
    chance: random.Random
    waiting: dict[str, _Job] = field(default_factory=dict)
    waits: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    inversions: list[str] = field(default_factory=list)

    def run(self, *, minutes: int) -> None:
        for second in range(0, minutes * 60, 5):
            with clock.shifted(timedelta(seconds=second)):
                if self.chance.random() < (0.9 if second % 600 < 120 else 0.3):
                    self._create(second)
                for number, agent in enumerate(self.agents):
                    if (second + 5 * number) % POLL == 0:
                        self._poll(agent, second)

    def _create(self, second: int) -> None:
        label, priority = self.chance.choice(LABELS), self.chance.choice(PRIORITIES)
        job = _Job(self.make_job(labels=[label], priority=priority), label, priority, second)
        self.waiting[job.job_id] = job

    def _poll(self, agent: _Agent, second: int) -> None:
        agent.ends = [end for end in agent.ends if end > second]
        free = 4 - len(agent.ends)
        if not free:
            return
        # Each request may come to another process.
        cache.clear()
        sets = queue_registry().sets_for(agent.labels)
        for claimed in jobs_claim(agent=agent.actor, sets=sets, limit=free):
            job = self.waiting.pop(claimed.job_id)
            self.waits[job.priority].append(second - job.created)
            agent.ends.append(second + self.chance.randrange(120, 600))
            sooner = [other for other in self.waiting.values() if other.label in agent.labels and other.turn < job.turn]
            self.inversions += [f"{job} at {second} s before {other}" for other in sooner]


@pytest.mark.parametrize("minutes", [10, pytest.param(60, marks=pytest.mark.nightly)])
def test_an_hour_of_twenty_label_sets_with_priorities_has_no_inversion(
    make_job: Callable[..., str], make_agent: MakeAgent, minutes: int
) -> None:
    agents = [_Agent(make_agent(), LABELS if number % 2 else LABELS[number:][:10]) for number in range(6)]
    simulation = Simulation(make_job, agents, random.Random(8))
    simulation.run(minutes=minutes)
    for priority, waits in sorted(simulation.waits.items(), reverse=True):
        mean = sum(waits) / len(waits)
        print(f"priority {priority:3}: {len(waits):3} jobs waited {mean:4.0f} s on average, {max(waits):4} s at most")
    print(f"{len(simulation.waiting)} jobs still wait")
    assert simulation.inversions == []
    everything = Everything.read()
    assert everything.hidden() == []
    assert everything.inconsistencies() == []
