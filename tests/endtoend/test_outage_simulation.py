"""Agents with twenty jobs each, and a control plane that goes away for 120 s twice, on a clock of its own.

The agents are simulated, with the pauses and repetitions of the real program; the services, the database and the sweep
are the product's. A loss would be seen: no job runs again after one.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.agents.serializers import heartbeat_report
from apps.agents.services import agent_enrol, enrolment_token_create, heartbeat_record
from apps.jobs.services import (
    Assignment,
    AttemptResult,
    agents_mark,
    attempt_finish,
    attempt_start,
    job_create,
    leases_expire,
    next_dispatch,
    work_dispatch,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.agents.machines import REPORT
from tests.conftest import ADMIN
from tests.properties.consistency import Everything

JOBS_EACH, SLOTS = 20, 4
OUTAGES = ((30.0, 150.0), (185.0, 305.0))
# Seconds from one heartbeat to the next while jobs run, and the longest pauses after failures, as in the agent program.
BUSY, HEARTBEAT_PAUSE, REPORT_PAUSE = 10.0, 10.0, 15.0
DONE = AttemptResult(exit_code=0, error_message=None, steps=[], log_chunks=0, commit=None)


class Away(Exception):
    """The control plane does not answer."""


@dataclass
class Simulation:
    """Events in the order of their times, in seconds since the beginning."""

    stack: ExitStack
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    # How often each job was run, how many were reported, and when the last one was.
    runs: Counter[str] = field(default_factory=Counter)
    reported: int = 0
    last_report: float = 0.0
    refused: int = 0

    def __post_init__(self) -> None:
        self.start = clock.now()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), event))

    def run(self, *, until: Callable[[], bool]) -> None:
        while not until():
            self.now, _, event = heapq.heappop(self.events)
            assert self.now < 3600, "it takes too long"
            self.stack.close()
            self.stack.enter_context(clock.shifted(self.start + timedelta(seconds=self.now) - clock.now()))
            event()

    def require_there(self) -> None:
        if any(begin <= self.now < end for begin, end in OUTAGES):
            self.refused += 1
            raise Away

    def sweep(self) -> None:
        self.after(60, self.sweep)
        if not any(begin <= self.now < end for begin, end in OUTAGES):
            cache.clear()
            agents_mark()
            leases_expire()


@dataclass
class Machine:
    """An agent: sends heartbeats, runs what it gets, and repeats each report until it has an answer."""

    simulation: Simulation
    actor: Actor
    durations: random.Random
    running: dict[str, int] = field(default_factory=dict)
    created: int = 0
    pause: float = 0.5

    def heartbeat(self) -> None:
        try:
            self.simulation.require_there()
        except Away:
            self.simulation.after(self.pause * self.durations.uniform(0.5, 1), self.heartbeat)
            self.pause = min(HEARTBEAT_PAUSE, self.pause * 2)
            return
        self.pause = 0.5
        self.created = max(self.created + 1, clock.epoch())
        named = [{"job_id": job_id, "attempt": attempt} for job_id, attempt in self.running.items()]
        free = SLOTS - len(self.running)
        report = heartbeat_report(
            {"agent_id": self.actor.id, **REPORT, "running": named, "free_slots": free}, agent_id=self.actor.id
        )
        result = heartbeat_record(
            agent_id=self.actor.id, report=report, created=self.created, nonce=f"nonce-{self.created}"
        )
        answer = work_dispatch(
            agent=self.actor,
            labels=(),
            leases=result.heartbeat.leases,
            running=named,
            free_slots=free,
            slots=result.heartbeat.lease_limit(SLOTS),
            fresh=result.fresh,
            takes_work=result.heartbeat.status == "healthy",
        )
        assert answer.commands == [], "no attempt is to be abandoned"
        for assignment in answer.assignments:
            self.take(assignment)
        self.simulation.after(BUSY if self.running else answer.next_check_interval, self.heartbeat)

    def take(self, assignment: Assignment) -> None:
        if assignment.job_id in self.running:
            return
        self.running[assignment.job_id] = assignment.attempt
        self.start(assignment, pause=0.5)

    def start(self, assignment: Assignment, *, pause: float) -> None:
        try:
            self.simulation.require_there()
        except Away:
            following = min(REPORT_PAUSE, pause * 2)
            seconds = pause * self.durations.uniform(0.5, 1)
            self.simulation.after(seconds, lambda: self.start(assignment, pause=following))
            return
        attempt_start(agent=self.actor, job_id=assignment.job_id, attempt=assignment.attempt)
        self.simulation.runs[assignment.job_id] += 1
        seconds = self.durations.choice([4.0, 8.0, 12.0, 120.0]) * self.durations.uniform(0.5, 1.5)
        self.simulation.after(seconds, lambda: self.report(assignment, pause=0.5))

    def report(self, assignment: Assignment, *, pause: float) -> None:
        try:
            self.simulation.require_there()
        except Away:
            following = min(REPORT_PAUSE, pause * 2)
            seconds = pause * self.durations.uniform(0.5, 1)
            self.simulation.after(seconds, lambda: self.report(assignment, pause=following))
            return
        first = attempt_finish(agent=self.actor, job_id=assignment.job_id, attempt=assignment.attempt, result=DONE)
        assert first
        del self.running[assignment.job_id]
        self.simulation.reported += 1
        self.simulation.last_report = self.simulation.now
        following_one = next_dispatch(agent=self.actor, labels=(), slots=SLOTS, is_repeated=False, wants_next=True)
        if following_one:
            self.take(following_one)


@pytest.mark.parametrize("agents", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_two_outages_of_120_s_lose_double_and_fail_no_job(
    tables: None, capsys: pytest.CaptureFixture[str], agents: int
) -> None:
    pipeline_save(
        actor=ADMIN,
        name="self",
        repository="https://git.example.com/app.git",
        default_ref="main",
        definition="retries: 0\nsteps: [{run: make deploy}]",
    )
    expires_at = clock.now() + timedelta(days=1)
    _, token = enrolment_token_create(uses=agents, expires_at=expires_at, actor=ADMIN)
    names = [f"build-{number}" for number in range(agents)]
    enrolled = [agent_enrol(token=token, name=name, region="eu", labels=[], slots=SLOTS).agent_id for name in names]
    with ThreadPoolExecutor(8) as pool:
        jobs = set(pool.map(lambda _: job_create(actor=ADMIN).job_id, range(agents * JOBS_EACH)))
    with ExitStack() as stack:
        simulation = Simulation(stack)
        for number, (agent_id, name) in enumerate(zip(enrolled, names, strict=True)):
            machine = Machine(simulation, Actor("agent", agent_id, name), random.Random(number))
            simulation.after(number / 10, machine.heartbeat)
        simulation.after(30, simulation.sweep)
        simulation.run(until=lambda: simulation.reported == len(jobs))
    everything = Everything.read()
    lost = sum(count for (action, _), count in everything.acts.items() if action == "job.requeued")
    doubled = sum(count - 1 for count in simulation.runs.values())
    ended = Counter(str(job.status) for job in everything.jobs.values())
    with capsys.disabled():
        print(
            f"\n{len(jobs)} jobs, {agents} agents, {len(OUTAGES)} outages of 120 s: {lost} lost, {doubled} doubled, "
            f"{ended['failed']} failed, {ended['completed']} completed in {simulation.last_report:.0f} s; "
            f"{simulation.refused} requests found no control plane"
        )
    assert (lost, doubled, dict(ended)) == (0, 0, {"completed": len(jobs)})
    assert set(simulation.runs) == jobs
    assert {int(job.attempt) for job in everything.jobs.values()} == {1}
    assert everything.inconsistencies() == []
