"""Whatever people, agents and the sweep do to jobs, in whatever order: it goes as a small model says it goes.

A state machine acts on the real services and the emulator. `_Model` says in plain Python what ought to happen; after
every step all records are read and compared with it, and with each other.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.agents.services import agent_enrol, agents_mark_silent, enrolment_token_create, heartbeat_record
from apps.jobs.models import Job
from apps.jobs.selectors import job_log_read
from apps.jobs.services import (
    AttemptResult,
    FileReport,
    attempt_define,
    attempt_finish,
    attempt_start,
    job_cancel,
    job_create,
    job_retry,
    leases_expire,
    log_append,
    logs_archive,
    queue_reconcile,
    sets_prune,
    work_dispatch,
)
from apps.jobs.services.queue import entry_of, set_register
from apps.jobs.states import FINAL, LEASED
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError
from tests.conftest import ADMIN
from tests.properties.consistency import Everything, tables_empty

LABELS = ("gpu", "linux")
AGENTS: tuple[tuple[str, ...], ...] = ((), ("linux",), ("gpu", "linux"))
RETRIES = 1
ON_THE_SERVER = f"retries: {RETRIES}\nsteps:\n  - name: test\n    run: make test\n"
LEASE, ACKNOWLEDGE, NOTE_EVERY, SEARCH_EVERY, REMEMBERED = 45, 60, 10, 20, 24 * 60 * 60
# After this long without a poll, silence counts anew; after the next without a sweep too, the control plane was away.
GAP, AWAY, UNHEARD = 30, 150, 600
# How long an agent may take to obey, how long a job runs at most, and for how long it avoids an agent that ignored it.
OBEY, LIMIT, AVOID = 120, 3600, 120
SLOTS, IN_A_ROW, PAUSE = 2, 3, 300

# How far apart in seconds two steps are at least: longer than one takes, so that the real clock may run meanwhile.
TICK = 0.5

label_sets = st.sets(st.sampled_from(LABELS)).map(lambda labels: tuple(sorted(labels)))
picks = st.integers(0, 1_000)


@dataclass
class _Job:
    """What the model knows of a job. Times are seconds since the example began."""

    job_id: str
    number: int
    pipeline: str
    # Those of the request, and with those of the repository's file.
    asked: tuple[str, ...]
    labels: tuple[str, ...]
    priority: int
    status: str = "queued"
    attempt: int = 0
    lost: int = 0
    agent: int | None = None
    # Since when the agent has it in the current status: assigned, or running.
    leased_since: float = 0
    cancel: bool = False
    cancel_at: float = 0
    # The agent that lost the current attempt, and since when it had run it.
    lost_by: int | None = None
    lost_since: float = 0
    # The agent that does not get it, and until when.
    avoids: tuple[int, float] = (-1, 0)
    retries: int = RETRIES
    # The attempt that last reported the definition.
    defined: int = 0
    printed: dict[int, list[bytes]] = field(default_factory=dict)
    # The jobs that are its retries.
    retried_by: list[str] = field(default_factory=list)
    # The record when the job ended.
    ended_as: dict[str, Any] | None = None

    @property
    def is_leased(self) -> bool:
        return self.status in LEASED

    def is_lost_by(self, number: int) -> bool:
        return self.lost_by == number and self.status in {"queued", "failed"}

    @property
    def log(self) -> bytes:
        return b"".join(b"".join(self.printed[attempt]) for attempt in sorted(self.printed))

    def queue(self) -> None:
        self.status, self.agent = "queued", None

    def lose(self) -> None:
        self.lost += 1
        if self.status == "running" and not self.cancel:
            self.lost_by, self.lost_since = self.agent, self.leased_since
        if self.cancel:
            self.status = "cancelled"
        elif self.lost > self.retries:
            self.status = "failed"
        else:
            self.queue()


@dataclass
class _Agent:
    """What the model knows of an agent."""

    actor: Actor
    labels: tuple[str, ...]
    heartbeat_at: float
    # Offers in a row that it has not started.
    ignored: int = 0
    ignored_at: float = 0
    created: int = 0
    nonce: str = ""


def _answer(act: Any, **arguments: Any) -> tuple[str, Any]:
    """The code of the error that the act raises, or "" and what it returns."""
    try:
        return "", act(**arguments)
    except ApplicationError as error:
        return error.code, None


def _refusal(act: Any, **arguments: Any) -> str:
    """The code of the error that the act raises, or "" when it does not."""
    return _answer(act, **arguments)[0]


class JobLife(RuleBasedStateMachine):
    """Three agents with different labels, two pipelines, and everything that may happen to jobs."""

    @initialize()
    def begin(self) -> None:
        tables_empty()
        cache.clear()
        self.stack = ExitStack()
        self.start: datetime = clock.now()
        self.now = 0.0
        self.jobs: list[_Job] = []
        self.acts: Counter[tuple[str, str]] = Counter()
        self.looked_at = self.searched_at = self.resumed_at = self.swept_at = float("-inf")
        self.keys: dict[str, tuple[object, _Job, float]] = {}
        definitions = {"self": ON_THE_SERVER, "repo": None}
        for name, definition in definitions.items():
            pipeline_save(
                actor=ADMIN,
                name=name,
                repository="https://git.example.com/app.git",
                default_ref="main",
                definition=definition,
            )
        _, secret = enrolment_token_create(uses=len(AGENTS), expires_at=self.start + timedelta(days=1), actor=ADMIN)
        self.agents = []
        for labels in AGENTS:
            enrolled = agent_enrol(token=secret, name="build", region="eu", labels=labels, slots=2)
            self.agents.append(_Agent(Actor("agent", enrolled.agent_id, "build"), labels, self.now))

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    # --- time ---------------------------------------------------------------------------------------------------

    def _tick(self, seconds: float = TICK) -> None:
        """Set the clock to the example's own time, which does not depend on how fast this machine is."""
        self.now += seconds
        self.stack.close()
        self.stack.enter_context(clock.shifted(self.start + timedelta(seconds=self.now) - clock.now()))

    def _ends_of_leases(self) -> list[float]:
        """When the sweep and the polls decide otherwise than before."""
        return [
            *(max(agent.heartbeat_at, self.resumed_at) + LEASE for agent in self.agents),
            *(self.looked_at + limit for limit in (NOTE_EVERY, GAP, AWAY, UNHEARD)),
            *(self.resumed_at + limit for limit in (OBEY, UNHEARD)),
            self.searched_at + SEARCH_EVERY,
            self.swept_at + AWAY,
        ]

    def _limits_of(self, job: _Job) -> list[float]:
        """When the control plane decides otherwise about a job that an agent has."""
        ages = [job.leased_since + limit for limit in (LEASE, ACKNOWLEDGE, LIMIT + OBEY)]
        return [*ages, job.cancel_at + OBEY, job.avoids[1]]

    def _tick_past(self, moments: Iterable[float]) -> None:
        """Let some more time pass if one of these moments is so near that real time would decide."""
        for moment in sorted(moments):
            if -1 <= self.now - moment <= 0.2:
                self._tick(moment - self.now + 0.5)

    @rule(seconds=st.sampled_from([7, 50, 65, 130]))
    def time_passes(self, seconds: int) -> None:
        self._tick(seconds)
        # What a process remembers, it remembers for less than that.
        cache.clear()

    @precondition(lambda self: self.keys)
    @rule()
    def a_day_passes(self) -> None:
        self._tick(REMEMBERED + 60)
        cache.clear()

    @rule()
    def another_process_takes_over(self) -> None:
        cache.clear()

    # --- people -------------------------------------------------------------------------------------------------

    @rule(
        pipeline=st.sampled_from(["self", "self", "repo"]),
        labels=label_sets,
        priority=st.sampled_from([50, 50, 50, 10, 90]),
        key=st.sampled_from([None, None, "a", "b"]),
    )
    def create(self, pipeline: str, labels: tuple[str, ...], priority: int, key: str | None) -> None:
        self._tick()
        request: dict[str, Any] = {
            "pipeline": pipeline,
            "git_ref": "topic",
            "labels": list(labels),
            "priority": priority,
        }
        made = self.keys.get(key or "")
        if made and self.now - made[2] < REMEMBERED:
            if made[0] == request:
                assert job_create(actor=ADMIN, idempotency_key=key, **request).job_id == made[1].job_id
            else:
                code = _refusal(job_create, actor=ADMIN, idempotency_key=key, **request)
                assert code == "idempotency_key_reused"
            return
        job = job_create(actor=ADMIN, idempotency_key=key, **request)
        self._created(job.job_id, pipeline, labels, priority)
        self.acts["job.created", job.job_id] += 1
        if key:
            self.keys[key] = (request, self.jobs[-1], self.now)

    def _created(self, job_id: str, pipeline: str, labels: tuple[str, ...], priority: int) -> None:
        assert job_id not in {job.job_id for job in self.jobs}
        retries = RETRIES if pipeline == "self" else 2
        self.jobs.append(_Job(job_id, len(self.jobs), pipeline, labels, labels, priority, retries=retries))

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        self._tick()
        job = self.jobs[pick % len(self.jobs)]
        code = _refusal(job_cancel, actor=ADMIN, job_id=job.job_id)
        if job.cancel or job.status == "cancelled":
            assert code == ""
        elif job.status in FINAL:
            assert code == "job_finished"
        else:
            assert code == ""
            if job.status == "running":
                job.cancel, job.cancel_at = True, self.now
                self.acts["job.cancel_requested", job.job_id] += 1
            else:
                job.status = "cancelled"
                self.acts["job.cancelled", job.job_id] += 1

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        self._tick()
        job = self.jobs[pick % len(self.jobs)]
        if job.status not in FINAL:
            assert _refusal(job_retry, actor=ADMIN, job_id=job.job_id) == "job_not_finished"
            return
        again = job_retry(actor=ADMIN, job_id=job.job_id)
        assert again.retry_of == job.job_id
        self._created(again.job_id, job.pipeline, job.asked, job.priority)
        job.retried_by.append(again.job_id)
        self.acts["job.retried", again.job_id] += 1

    # --- agents -------------------------------------------------------------------------------------------------

    @rule(pick=picks, free=st.integers(0, 3), forgets=st.booleans(), replay=st.booleans(), keeps=st.booleans())
    def heartbeat(self, pick: int, free: int, forgets: bool, replay: bool, keeps: bool) -> None:
        """The agent names what it runs, unless it `forgets`: then it has been restarted. A `replay` is an old one.

        If it `keeps` what it has lost, it names that too.
        """
        number = pick % len(self.agents)
        agent = self.agents[number]
        leased = [job for job in self.jobs if job.is_leased and job.agent == number]
        self._tick()
        limits = [limit for job in self.jobs for limit in self._limits_of(job)]
        self._tick_past([*limits, *self._ends_of_leases(), agent.ignored_at + PAUSE])
        replay = replay and bool(agent.nonce)
        named = [] if forgets else [job for job in leased if job.status == "running"]
        kept = [job for job in self.jobs if job.is_lost_by(number)] if keeps and not replay else []
        running = [{"job_id": job.job_id, "attempt": job.attempt} for job in [*named, *kept]]
        if not replay:
            agent.created, agent.nonce = agent.created + 1, f"nonce-{number}-{self.now}"
            agent.heartbeat_at = self.now
        result = heartbeat_record(
            agent_id=agent.actor.id,
            report=_report(free, running),
            created=agent.created,
            nonce=agent.nonce,
        )
        assert result.fresh is not replay
        before = {job.job_id: job.attempt for job in self.jobs}
        dispatch = work_dispatch(
            agent=agent.actor,
            labels=agent.labels,
            leases=result.heartbeat.leases,
            running=running,
            free_slots=free,
            slots=result.heartbeat.lease_limit(SLOTS),
            fresh=result.fresh,
            takes_work=result.fresh and result.heartbeat.status == "healthy",
        )
        is_fit = agent.ignored < IN_A_ROW or self.now - agent.ignored_at >= PAUSE
        most = SLOTS if agent.ignored < IN_A_ROW else 1
        commands = [(job.job_id, job.attempt, self._command(job)) for job in named]
        assert sorted((command.job_id, command.attempt, command.command) for command in dispatch.commands) == sorted(
            command for command in commands if command[2]
        )
        offered = self._after_heartbeat([job for job in leased if job not in named], fresh=not replay)
        for job in kept:
            self._kept(job)
        if not replay:
            assert (result.heartbeat.status == "healthy") is is_fit
            self._look()
        assignments = {assignment.job_id: assignment.attempt for assignment in dispatch.assignments}
        assert len(assignments) == len(dispatch.assignments)
        for job in offered:
            assert assignments.pop(job.job_id) == job.attempt
        has = sum(job.is_leased and job.agent == number for job in self.jobs)
        room = min(free - len(offered), most - has)
        self._claimed(number, assignments, before, room=room if is_fit and not replay else 0)

    def _command(self, job: _Job) -> str:
        """What the agent hears of a job that it runs; one that is overdue ends."""
        could_report = self.now - self.resumed_at >= OBEY and self.now - self.looked_at <= GAP
        if could_report and job.cancel and self.now - job.cancel_at > OBEY:
            job.status = "cancelled"
        elif could_report and self.now - job.leased_since > LIMIT + OBEY:
            job.status = "timed_out"
        else:
            return "cancel" if job.cancel else ""
        self.acts["job.finished", job.job_id] += 1
        return "abandon"

    def _kept(self, job: _Job) -> None:
        """A lost attempt that its agent still runs: the job runs again, unless it has failed."""
        if job.status == "queued":
            job.status, job.agent, job.leased_since, job.lost = "running", job.lost_by, job.lost_since, job.lost - 1
            job.lost_by = None
            self.acts["job.resumed", job.job_id] += 1

    def _look(self) -> None:
        """The search for expired leases in a poll."""
        silent_for = self.now - self.looked_at
        if silent_for <= NOTE_EVERY:
            return
        self.looked_at = self.now
        if silent_for > GAP:
            self.resumed_at = self.now
        if self.now - self.searched_at > SEARCH_EVERY:
            self.searched_at = self.now
            self._leases_end(heard_since=self.resumed_at)

    def _after_heartbeat(self, unnamed: list[_Job], *, fresh: bool) -> list[_Job]:
        """What becomes of the jobs that the agent has and does not name. Returns those it is offered again."""
        offered = []
        for job in unnamed:
            age = self.now - job.leased_since
            if job.status == "assigned" and age > ACKNOWLEDGE:
                assert job.agent is not None
                agent = self.agents[job.agent]
                agent.ignored, agent.ignored_at = agent.ignored + 1, self.now
                job.avoids = (job.agent, self.now + AVOID)
                job.queue()
                self.acts["job.requeued", job.job_id] += 1
            elif job.status == "assigned":
                offered.append(job)
            elif fresh and age > LEASE:
                self._lost(job)
        return offered

    def _lost(self, job: _Job) -> None:
        job.lose()
        self.acts["job.requeued" if job.status == "queued" else "job.finished", job.job_id] += 1

    def _leases_end(self, *, heard_since: float) -> int:
        lost = [
            job
            for job in self.jobs
            if job.is_leased
            and job.agent is not None
            and self.now - max(heard_since, self.agents[job.agent].heartbeat_at) > LEASE
        ]
        for job in lost:
            self._lost(job)
        return len(lost)

    def _claimed(self, number: int, claimed: dict[str, int], before: dict[str, int], room: int) -> None:
        agent = self.agents[number]
        fitting = [
            job
            for job in self.jobs
            if job.status == "queued"
            and set(job.labels) <= set(agent.labels)
            and not (job.avoids[0] == number and self.now < job.avoids[1])
        ]
        taken = [job for job in fitting if job.job_id in claimed]
        assert len(taken) == len(claimed), "it got a job that does not wait, or one that it may not take"
        assert len(taken) <= max(0, room)
        left = [job for job in fitting if job not in taken]
        if taken and left:
            # The model knows the order only between priorities: jobs of one may be shuffled after a lost race.
            assert min(job.priority for job in taken) >= max(job.priority for job in left)
        self.behind = bool(left) and len(taken) < min(room, 4)
        for job in taken:
            assert claimed[job.job_id] == before[job.job_id] + 1
            job.status, job.attempt, job.agent, job.leased_since = "assigned", job.attempt + 1, number, self.now
            job.lost_by = None
            self.acts["job.claimed", job.job_id] += 1

    @rule(pick=picks)
    def a_fresh_process_hands_out_all_it_can(self, pick: int) -> None:
        """What no process remembers must not keep work from an agent that may take it."""
        cache.clear()
        self.heartbeat(pick, free=3, forgets=False, replay=False, keeps=False)
        assert not self.behind, "work waits that the agent could have taken"

    def _attempt(self, pick: int, stale: int) -> tuple[_Job, _Agent, int, bool]:
        """Some attempt of some job by some agent; `stale` is 0 for most, to take the true one."""
        leased = [job for job in self.jobs if job.is_leased or job.lost_by is not None]
        job = leased[pick % len(leased)] if leased and stale < 3 else self.jobs[pick % len(self.jobs)]
        own = job.agent if job.agent is not None else job.lost_by
        number = own if own is not None and stale != 1 else pick % len(self.agents)
        attempt = job.attempt if stale != 2 else max(1, job.attempt - 1)
        is_own = attempt == job.attempt and (number == job.agent or job.is_lost_by(number))
        return job, self.agents[number], attempt, is_own

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, stale=st.sampled_from([0, 0, 0, 0, 1, 2, 3]))
    def start_(self, pick: int, stale: int) -> None:
        self._tick()
        job, agent, attempt, own = self._attempt(pick, stale)
        code = _refusal(attempt_start, agent=agent.actor, job_id=job.job_id, attempt=attempt)
        if not (own and job.is_leased):
            assert code == "stale_attempt"
            return
        assert code == ""
        if job.status == "assigned":
            job.status, job.leased_since = "running", self.now
            agent.ignored = 0
            self.acts["job.started", job.job_id] += 1

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, stale=st.sampled_from([0, 0, 0, 1, 2]), labels=label_sets, retries=st.integers(0, 2))
    def define(self, pick: int, stale: int, labels: tuple[str, ...], retries: int) -> None:
        self._tick()
        job, agent, attempt, own = self._attempt(pick, stale)
        if job.pipeline == "self":
            return
        text = f"labels: [{', '.join(labels)}]\nretries: {retries}\nsteps:\n  - run: make\n"
        code = _refusal(
            attempt_define,
            agent=agent.actor,
            agent_labels=agent.labels,
            job_id=job.job_id,
            attempt=attempt,
            report=FileReport(commit="c0ffee", text=text),
        )
        wanted = tuple(sorted({*job.labels, *labels}))
        if not (own and job.status == "running"):
            assert code == "stale_attempt"
        elif not set(wanted) <= set(agent.labels):
            assert code == "job_moved"
            if job.cancel:
                job.status = "cancelled"
                self.acts["job.finished", job.job_id] += 1
            else:
                job.labels = wanted
                job.queue()
                self.acts["job.requeued", job.job_id] += 1
        else:
            assert code == ""
            if job.defined != attempt:
                job.labels, job.retries, job.defined = wanted, retries, attempt
                self.acts["job.defined", job.job_id] += 1

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, stale=st.sampled_from([0, 0, 0, 0, 1, 2, 3]), data=st.binary(max_size=5), again=st.booleans())
    def log(self, pick: int, stale: int, data: bytes, again: bool) -> None:
        self._tick()
        cache.clear()
        job, agent, attempt, own = self._attempt(pick, stale)
        chunks = job.printed.get(attempt, [])
        sequence = len(chunks)
        if again and chunks:
            sequence, data = len(chunks) - 1, chunks[-1]
        code, command = _answer(
            log_append, agent_id=agent.actor.id, job_id=job.job_id, attempt=attempt, sequence=sequence, data=data
        )
        if not (own and (job.is_leased or job.lost_by is not None)):
            assert code == "stale_attempt"
            return
        assert code == ""
        assert command == ("cancel" if job.cancel else None)
        if sequence == len(chunks):
            job.printed.setdefault(attempt, []).append(data)

    @precondition(lambda self: self.jobs)
    @rule(
        pick=picks,
        stale=st.sampled_from([0, 0, 0, 1, 2, 3]),
        exit_code=st.sampled_from([0, 0, 1, None]),
        timed_out=st.booleans(),
    )
    def finish(self, pick: int, stale: int, exit_code: int | None, timed_out: bool) -> None:
        self._tick()
        job, agent, attempt, own = self._attempt(pick, stale)
        state = "timed_out" if timed_out and exit_code != 0 else "completed"
        result = AttemptResult(
            exit_code=exit_code,
            error_message=None if exit_code is not None else "no process",
            steps=[{"name": "test", "state": state}],
            log_chunks=len(job.printed.get(attempt, [])),
            commit=None,
        )
        code, first = _answer(attempt_finish, agent=agent.actor, job_id=job.job_id, attempt=attempt, result=result)
        is_late = own and job.lost_by is not None
        if not own or (job.status in {"assigned", "queued"} and not is_late):
            assert code == "stale_attempt"
            return
        assert code == ""
        assert first is (job.status == "running" or is_late)
        if first:
            was = job.status
            if exit_code == 0:
                job.status = "completed"
            elif job.cancel:
                job.status = "cancelled"
            else:
                job.status = "timed_out" if timed_out else "failed"
            self.acts["job.outcome_replaced" if was == "failed" else "job.finished", job.job_id] += 1
        if is_late:
            job.agent, job.lost_by, job.ended_as, job.lost = self.agents.index(agent), None, None, job.lost - 1

    # --- the sweep ----------------------------------------------------------------------------------------------

    @rule()
    def leases_end(self) -> None:
        self._tick()
        self._tick_past(self._ends_of_leases())
        expired = leases_expire()
        if self.now - self.looked_at <= GAP:
            assert expired == self._leases_end(heard_since=self.resumed_at)
            return
        if self.now - max(self.looked_at, self.swept_at) > AWAY:
            self.resumed_at = self.now
        self.swept_at = self.now
        is_over = self.now - max(self.looked_at, self.resumed_at) > UNHEARD
        assert expired == (self._leases_end(heard_since=float("-inf")) if is_over else 0)

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, by_cancelling=st.booleans())
    def the_queue_is_damaged_and_heals(self, pick: int, by_cancelling: bool) -> None:
        """As by a restore: a queued job loses its entry, or another job gets one."""
        self._tick()
        job = self.jobs[pick % len(self.jobs)]
        stored = Job.get(job.job_id)
        entry = entry_of(stored, attempt=max(1, job.attempt))
        if job.status == "queued":
            # Which agents to avoid is known to the entry alone.
            entry.delete()
            job.avoids = (-1, 0)
        else:
            # Only the entries of registered sets are looked at.
            set_register(labels=stored.labels)
            entry.save()
        if by_cancelling and job.status == "queued":
            job_cancel(actor=ADMIN, job_id=job.job_id)
            job.status = "cancelled"
            self.acts["job.cancelled", job.job_id] += 1
        else:
            assert queue_reconcile(seconds=60) == 1

    @rule()
    def sets_are_pruned(self) -> None:
        self._tick()
        sets_prune()

    @rule()
    def agents_are_marked(self) -> None:
        self._tick()
        agents_mark_silent()

    @rule()
    def logs_are_stored(self) -> None:
        self._tick()
        logs_archive()
        for job in self.jobs:
            if job.status in FINAL:
                self._log_is_right(job)

    # --- what is always true --------------------------------------------------------------------------------------

    @invariant()
    def records_are_consistent_and_as_the_model_says(self) -> None:
        if not hasattr(self, "jobs"):
            return
        everything = Everything.read()
        assert everything.inconsistencies() == []
        assert everything.hidden() == []
        assert set(everything.jobs) == {job.job_id for job in self.jobs}
        for job in self.jobs:
            record = everything.jobs[job.job_id]
            note(f"{job.number}: {record.status} attempt {int(record.attempt)}")
            assert record.status == job.status
            assert record.attempt == job.attempt
            assert record.lost_attempts == job.lost
            assert tuple(record.labels) == job.labels
            assert bool(record.cancel_requested) == job.cancel
            assert list(record.retried_by or ()) == job.retried_by[-20:]
            if job.is_leased:
                assert job.agent is not None
                assert record.agent_id == self.agents[job.agent].actor.id
            self._stays_ended(job, record)
        recorded = Counter({act: count for act, count in everything.acts.items() if act[1].startswith("job:")})
        assert recorded == Counter({(action, f"job:{job_id}"): count for (action, job_id), count in self.acts.items()})

    def _stays_ended(self, job: _Job, record: Job) -> None:
        if job.status not in FINAL:
            return
        now = {
            name: value
            for name, value in record.serialize().items()
            if name not in {"open", "log_stored", "retried_by"}
        }
        if job.ended_as is None:
            job.ended_as = now
        assert now == job.ended_as

    @invariant()
    def every_log_reads_as_it_was_printed(self) -> None:
        for job in getattr(self, "jobs", []):
            if job.printed:
                self._log_is_right(job)

    def _log_is_right(self, job: _Job) -> None:
        record = Job.find(job.job_id)
        assert record is not None
        data, offset = b"", 0
        while True:
            part = job_log_read(job=record, offset=offset, limit=7)
            assert len(part.data) <= 7
            assert part.next_offset == offset + len(part.data)
            data, offset = data + part.data, part.next_offset
            if not part.data:
                break
        assert data == job.log
        assert part.complete is (job.status in FINAL)


def _report(free: int, running: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cpu_percent": 1,
        "memory_percent": 1,
        "disk_percent": 1,
        "jobs_queued": 0,
        "jobs_completed": 0,
        "uptime_seconds": 1,
        "free_slots": free,
        "running": running,
    }


def _machine_settings(**members: Any) -> settings:
    return settings(
        deadline=None,
        print_blob=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        **members,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "examples"), [(1, 7), *(pytest.param(n, 300, marks=pytest.mark.nightly) for n in (2, 3, 4))]
)
def test_jobs_live_as_the_model_says(tables: None, part: int, examples: int) -> None:
    """In parts, so that more processes can try."""
    phases = [Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        JobLife, settings=_machine_settings(max_examples=examples, stateful_step_count=60, phases=phases)
    )
