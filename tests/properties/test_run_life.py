"""Random graphs of jobs, and whatever happens to them: no deadlock, no job before its needs, and every run ends right.

A state machine acts on the real services and the emulator. What must be true is said here in plain Python, by another
way than the product computes it: from the ends of the jobs alone.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.core.cache import cache
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.agents.models import Heartbeat
from apps.jobs.models import Job
from apps.jobs.selectors.groups import group_front
from apps.jobs.selectors.runs import RunView, run_view
from apps.jobs.services import attempt_expire, job_cancel, job_retry, run_cancel, run_retry, runs_advance
from apps.jobs.states import FINAL, RUN_FINAL, Status
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict
from controlplane.lib.ids import new_id
from tests.conftest import OPERATOR
from tests.jobs.runs import Worker, graph_pipeline
from tests.properties.consistency import Everything, tables_empty

NAMES = ("a", "b", "c", "d", "e")
GROUPS = {"one": 1, "two": 2}
BAD = frozenset({"failed", "timed_out"})


@dataclass
class _Declared:
    """A job of the file."""

    needs: dict[str, str]
    cells: int
    group: str | None
    allow_failure: bool
    max_parallel: int | None
    fail_fast: bool
    retries: int

    def text(self) -> str:
        needs = ", ".join(f"{{job: {job}, result: {result}}}" for job, result in self.needs.items())
        parts = [f"needs: [{needs}]"] if needs else []
        if self.cells > 1:
            limits = f", max_parallel: {self.max_parallel}" if self.max_parallel else ""
            limits += ", fail_fast: true" if self.fail_fast else ""
            parts.append(f"matrix: {{axes: {{n: {list(map(str, range(self.cells)))}}}{limits}}}")
        if self.group:
            parts.append(f"concurrency: {{group: {self.group}, limit: {GROUPS[self.group]}}}")
        if self.allow_failure:
            parts.append("allow_failure: true")
        return f"{{{', '.join([*parts, f'retries: {self.retries}', 'steps: [{run: make}]'])}}}"


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, _Declared]:
    """Up to five jobs, each of which may need those before it."""
    declared: dict[str, _Declared] = {}
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        wanted = draw(st.lists(st.sampled_from(sorted(declared)), unique=True, max_size=2)) if declared else []
        results = st.sampled_from(["success", "success", "any", "failure"])
        declared[name] = _Declared(
            needs={job: draw(results) for job in wanted},
            cells=draw(st.sampled_from([1, 1, 3])),
            group=draw(st.sampled_from([None, None, *GROUPS])),
            allow_failure=draw(st.booleans()) and draw(st.booleans()),
            max_parallel=draw(st.sampled_from([None, 1, 2])),
            fail_fast=draw(st.booleans()),
            retries=draw(st.integers(0, 1)),
        )
    return declared


@dataclass
class _Run:
    """A run of the example: what its file says, and what users have asked for."""

    run_id: str
    declared: dict[str, _Declared]
    cancelled: bool = False
    # A job that was let go by an end may start while what it needs runs again.
    ran_again: bool = False


class RunLife(RuleBasedStateMachine):
    """One agent with many slots, a pipeline, and everything that may happen to the runs of it."""

    @initialize()
    def begin(self) -> None:
        tables_empty()
        cache.clear()
        graph_pipeline()
        agent = Heartbeat(new_id(), at=clock.timestamp(clock.now()), status="healthy")
        agent.save()
        self.worker = Worker(Actor("agent", str(agent.agent_id), "build"))
        self.runs: list[_Run] = []
        self.running: list[Job] = []

    @precondition(lambda self: len(self.runs) < 3)
    @rule(declared=graphs())
    def start(self, declared: dict[str, _Declared]) -> None:
        text = "jobs:\n" + "".join(f"  {name}: {one.text()}\n" for name, one in declared.items())
        self.runs.append(_Run(self.worker.run(text), declared))

    @rule()
    def an_agent_takes_a_job(self) -> None:
        with suppress(ValueError):
            job = self.worker.take()
            self.running.append(job)
            self._needs_are_met(job)

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 100), exit_code=st.sampled_from([0, 0, 0, 1]))
    def a_job_ends(self, pick: int, exit_code: int) -> None:
        self.worker.finish(self.running.pop(pick % len(self.running)), exit_code=exit_code)

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 100))
    def a_job_is_lost(self, pick: int) -> None:
        job = self.running.pop(pick % len(self.running))
        attempt_expire(
            agent_id=self.worker.agent.id,
            job_id=job.job_id,
            attempt=int(job.attempt),
            heartbeat_at=None,
            reason="it is silent",
        )

    @precondition(lambda self: self.runs)
    @rule(pick=st.integers(0, 100), node=st.integers(0, 100))
    def a_user_cancels_a_job(self, pick: int, node: int) -> None:
        run = self.runs[pick % len(self.runs)]
        nodes = sorted(run_view(run.run_id).nodes.values(), key=lambda one: str(one.part))
        with suppress(Conflict):
            job_cancel(actor=OPERATOR, job_id=str(nodes[node % len(nodes)].job_id))

    @precondition(lambda self: self.runs)
    @rule(pick=st.integers(0, 100))
    def a_user_cancels_a_run(self, pick: int) -> None:
        run = self.runs[pick % len(self.runs)]
        with suppress(Conflict):
            run_cancel(actor=OPERATOR, run_id=run.run_id)
            run.cancelled = True

    @precondition(lambda self: self.runs)
    @rule(pick=st.integers(0, 100), everything=st.booleans())
    def a_user_runs_a_run_again(self, pick: int, everything: bool) -> None:
        run = self.runs[pick % len(self.runs)]
        with suppress(Conflict):
            run_retry(actor=OPERATOR, run_id=run.run_id, everything=everything)
            run.cancelled, run.ran_again = False, True

    @precondition(lambda self: self.runs)
    @rule(pick=st.integers(0, 100), node=st.integers(0, 100))
    def a_user_runs_a_job_again(self, pick: int, node: int) -> None:
        run = self.runs[pick % len(self.runs)]
        nodes = sorted(run_view(run.run_id).nodes.values(), key=lambda one: str(one.part))
        with suppress(Conflict):
            job_retry(actor=OPERATOR, job_id=str(nodes[node % len(nodes)].job_id))
            run.cancelled, run.ran_again = False, True

    @rule()
    def the_sweep_runs(self) -> None:
        with clock.shifted(timedelta(seconds=5)):
            runs_advance(seconds=60)

    # --- what must be true --------------------------------------------------------------------------------------

    def _needs_are_met(self, job: Job) -> None:
        """Nothing starts before all that it needs has ended as it asks."""
        run = next(run for run in self.runs if run.run_id == job.run_id)
        states = _states(run_view(run.run_id))
        unmet = _unmet(run.declared, str(job.node).partition(" ")[0], states)
        assert unmet is False or run.ran_again, (job.node, states)

    @invariant()
    def no_group_has_more_than_its_limit(self) -> None:
        if not hasattr(self, "runs"):
            return
        held = Counter(str(job.group) for job in Job.scan() if job.group and job.status not in FINAL | {Status.WAITING})
        for name, limit in GROUPS.items():
            front = group_front(f"graph/{name}")
            assert front.taken == held[f"graph/{name}"] <= limit

    @invariant()
    def the_records_agree(self) -> None:
        if hasattr(self, "runs"):
            assert Everything.read().inconsistencies() == []

    def teardown(self) -> None:
        """Every run ends when its agents go on, and it has ended as the ends of its jobs say."""
        if not hasattr(self, "runs"):
            return
        for _ in range(200):
            while self.running:
                self.worker.finish(self.running.pop())
            self.running += self.worker.take_all()
            if not self.running:
                break
        for run in self.runs:
            view = run_view(run.run_id)
            states = _states(view)
            assert view.run.status in RUN_FINAL, (view.run.status, states)
            _ended_as_it_should(run, str(view.run.status), states)


def _states(view: RunView) -> dict[str, str]:
    return {name: str(state) for name, state in view.states.items()}


def _cells(states: dict[str, str], job: str) -> dict[str, str]:
    return {name: state for name, state in states.items() if name == job or name.startswith(f"{job} (")}


def _unmet(declared: dict[str, _Declared], job: str, states: dict[str, str]) -> bool | None:
    """Whether the job may not run, by what it needs; None as long as that has not ended."""
    verdicts = []
    for need, result in declared[job].needs.items():
        ends = set(_cells(states, need).values())
        if not ends <= {str(status) for status in FINAL}:
            return None
        good = {"completed", *(BAD if declared[need].allow_failure else ())}
        bad = ends - good & BAD if declared[need].allow_failure else ends & BAD
        verdicts.append({"success": ends <= good, "any": True, "failure": bool(bad & BAD - good)}[result])
    return not all(verdicts)


def _ended_as_it_should(run: _Run, status: str, states: dict[str, str]) -> None:
    counted = {
        state
        for name, state in states.items()
        if name == "pipeline" or not (run.declared[name.partition(" ")[0]].allow_failure and state in BAD)
    }
    if counted & BAD:
        assert status == "failed"
    elif "cancelled" in counted:
        assert status == "cancelled"
    else:
        assert status in {"completed", "cancelled"} if run.cancelled else status == "completed"
    for name in states.keys() - {"pipeline"}:
        unmet = _unmet(run.declared, name.partition(" ")[0], states)
        if states[name] == "skipped":
            assert unmet is True, (name, states)
        elif not run.ran_again and states[name] != "cancelled":
            assert unmet is False, (name, states)


def _settings(examples: int) -> settings:
    return settings(
        deadline=None,
        print_blob=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        max_examples=examples,
        stateful_step_count=40,
        # Shrinking takes minutes; the steps of a failure are printed as they were.
        phases=[Phase.generate],
    )


@pytest.mark.slow
@pytest.mark.parametrize("examples", [4, pytest.param(300, marks=pytest.mark.nightly)])
def test_runs_live_as_their_graphs_say(tables: None, examples: int) -> None:
    run_state_machine_as_test(RunLife, settings=_settings(examples))
