"""What is to happen to the jobs of a run next: a pure function of the graph and the states of its jobs.

It is the same for every caller and may be computed any number of times: after each end of a job, and again by the
sweep. What it says is done by `apps.jobs.services.advance`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from apps.jobs.states import FINAL, RunStatus, Status
from apps.pipelines.definitions import Node
from controlplane.lib.errors import InvalidInput

# What a job's need may ask for, and what the results of jobs are called in conditions.
SUCCESS, FAILURE, CANCELLED, SKIPPED, ANY = "success", "failure", "cancelled", "skipped", "any"

# Why a job of a cancelled run has ended.
RUN_CANCELLED = "the run was cancelled"

# How many environments a message names.
_ENVIRONMENTS_SHOWN = 10

_RESULTS = {
    Status.COMPLETED: SUCCESS,
    Status.FAILED: FAILURE,
    Status.TIMED_OUT: FAILURE,
    Status.CANCELLED: CANCELLED,
    Status.SKIPPED: SKIPPED,
}


class PlannedJob(Protocol):
    """What the plan reads of a job in the graph."""

    @property
    def name(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def needs(self) -> Sequence[tuple[str, str]]: ...
    @property
    def condition(self) -> str | None: ...
    @property
    def allow_failure(self) -> bool: ...
    @property
    def max_parallel(self) -> int | None: ...
    @property
    def fail_fast(self) -> bool: ...


class ConditionFailed(Exception):
    """The condition of a job cannot be evaluated; the message says why."""


@dataclass(frozen=True)
class Before:
    """How what a job needs has ended. `results` has each need by its name.

    `is_met` says whether all ended as the job asks, `failed` whether one of them, or one before it, failed.
    """

    results: Mapping[str, str]
    is_met: bool
    failed: bool
    cancelled: bool


# Whether a job runs whose needs have ended, by its condition, if it has one. Raises ConditionFailed.
Decide = Callable[[PlannedJob, Before], bool]


@dataclass
class Plan:
    """What is to happen now. `result` is set when all jobs have ended, and is how the run has ended then."""

    queue: list[str] = field(default_factory=list)
    skip: dict[str, str] = field(default_factory=dict)
    fail: dict[str, str] = field(default_factory=dict)
    # Jobs that still wait are cancelled at once; the agents of the others get a cancel request.
    cancel: dict[str, str] = field(default_factory=dict)
    result: RunStatus | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done to a job."""
        return not (self.queue or self.skip or self.fail or self.cancel)


def result_of(status: Status, *, allow_failure: bool = False) -> str:
    """The result of a job that has ended, as needs and conditions have it.

    A job that others need and that has not ended is run again: they were let go by its end before, as a success.
    """
    result = _RESULTS.get(status, SUCCESS)
    return SUCCESS if result == FAILURE and allow_failure else result


def run_result(states: Mapping[str, Status], *, allowed: frozenset[str] = frozenset(), cancelled: bool) -> RunStatus:
    """How a run has ended whose jobs have these final states. The failures of `allowed` jobs do not count."""
    ends = {result_of(state, allow_failure=name in allowed) for name, state in states.items()}
    if FAILURE in ends:
        return RunStatus.FAILED
    return RunStatus.CANCELLED if cancelled or CANCELLED in ends else RunStatus.COMPLETED


def run_plan(
    jobs: Sequence[PlannedJob],
    states: Mapping[str, Status],
    *,
    decide: Decide,
    cancelled: bool = False,
    barred: Mapping[str, str] | None = None,
    in_line: Mapping[str, str] | None = None,
) -> Plan:
    """What is to happen to the jobs of a run, which come in an order in which each follows what it needs.

    `states` has the status of every job; `queued` stands for all between waiting and an end. `decide` evaluates
    conditions. With `cancelled`, the run was cancelled: only jobs whose condition asks for that start. `barred` has the
    jobs that are skipped whatever their conditions say, with the reason. `in_line` has those that wait in the line of
    their concurrency group, with the time since when.
    """
    plan = Plan()
    now, failed = dict(states), set[str]()
    named = {job.name: job for job in jobs}
    # First, so that what needs these cells is decided in the same breath.
    _fail_fast(jobs, now, plan)
    for job in jobs:
        if now[job.name] == Status.WAITING:
            if barred and job.name in barred:
                _end(job, Status.SKIPPED, barred[job.name], now, plan)
                continue
            _waiting(job, now, named, failed, decide, cancelled, plan)
        elif cancelled and now[job.name] not in FINAL:
            plan.cancel[job.name] = RUN_CANCELLED
        if _has_failed(job, now) or any(name in failed for name, _ in job.needs):
            failed.add(job.name)
    _fail_fast(jobs, now, plan)
    _limit_parallel(jobs, now, in_line or {}, plan)
    if all(state in FINAL for state in now.values()):
        allowed = frozenset(job.name for job in jobs if job.allow_failure)
        plan.result = run_result(now, allowed=allowed, cancelled=cancelled)
    return plan


def _has_failed(job: PlannedJob, now: Mapping[str, Status]) -> bool:
    return now[job.name] in FINAL and result_of(now[job.name], allow_failure=job.allow_failure) == FAILURE


def _waiting(
    job: PlannedJob,
    now: dict[str, Status],
    named: Mapping[str, PlannedJob],
    failed: set[str],
    decide: Decide,
    cancelled: bool,
    plan: Plan,
) -> None:
    """Queue, skip, cancel or fail a waiting job, or leave it waiting. Notes its new state for the jobs that need it."""
    if cancelled and job.condition is None:
        _end(job, Status.CANCELLED, RUN_CANCELLED, now, plan)
        return
    results = {}
    for name, _ in job.needs:
        if now[name] not in FINAL:
            return
        results[name] = result_of(now[name], allow_failure=named[name].allow_failure)
    unmet = _unmet(job, results, named)
    before = Before(results, not unmet, any(name in failed for name, _ in job.needs), cancelled)
    try:
        starts = decide(job, before) if job.condition is not None else before.is_met
    except ConditionFailed as failure:
        _end(job, Status.FAILED, f"Its condition cannot be evaluated: {failure}", now, plan)
        return
    if starts:
        plan.queue.append(job.name)
    elif cancelled:
        _end(job, Status.CANCELLED, RUN_CANCELLED, now, plan)
    else:
        _end(job, Status.SKIPPED, unmet or f"its condition is false: {job.condition}", now, plan)


def _end(job: PlannedJob, status: Status, reason: str, now: dict[str, Status], plan: Plan) -> None:
    """Note that the waiting job ends now, without having run."""
    now[job.name] = status
    {Status.SKIPPED: plan.skip, Status.FAILED: plan.fail, Status.CANCELLED: plan.cancel}[status][job.name] = reason


def _unmet(job: PlannedJob, results: Mapping[str, str], named: Mapping[str, PlannedJob]) -> str:
    """Why the job cannot start, or "". Of a matrix that must succeed, all cells must; of one that must fail, one."""
    failing: dict[str, bool] = {}
    for name, result in job.needs:
        if result == SUCCESS and results[name] != SUCCESS:
            return f"{name} {_ended(results[name])}"
        if result == FAILURE:
            needed = named[name].job
            failing[needed] = failing.get(needed, False) or results[name] == FAILURE
    return next((f"{needed} did not fail" for needed, failed in failing.items() if not failed), "")


def _ended(result: str) -> str:
    return {FAILURE: "failed", CANCELLED: "was cancelled", SKIPPED: "was skipped"}[result]


def _fail_fast(jobs: Sequence[PlannedJob], now: dict[str, Status], plan: Plan) -> None:
    """Cancel the other cells of a matrix of which one has failed."""
    failed = {
        job.job: job.name
        for job in jobs
        if job.fail_fast and not job.allow_failure and now[job.name] in FINAL and result_of(now[job.name]) == FAILURE
    }
    for job in jobs:
        if job.job in failed and now[job.name] not in FINAL:
            plan.cancel[job.name] = f"{failed[job.job]} failed"
            if now[job.name] == Status.WAITING:
                now[job.name] = Status.CANCELLED
            if job.name in plan.queue:
                plan.queue.remove(job.name)


def _limit_parallel(
    jobs: Sequence[PlannedJob], now: Mapping[str, Status], in_line: Mapping[str, str], plan: Plan
) -> None:
    """Let the cells of a matrix that exceed its `max_parallel` wait for the others.

    Cells in the line of a concurrency group come first, in their order. If a cell took the place of one that is before
    it in the line, both would wait for ever, and all that are behind them.
    """
    running: dict[str, int] = defaultdict(int)
    for job in jobs:
        running[job.job] += now[job.name] == Status.QUEUED
    wanted = set(plan.queue)
    limited = [job for job in jobs if job.name in wanted and job.max_parallel is not None]
    for job in sorted(limited, key=lambda job: (job.name not in in_line, in_line.get(job.name, ""))):
        if job.max_parallel is not None and running[job.job] >= job.max_parallel:
            plan.queue.remove(job.name)
        running[job.job] += 1


def environments_shown(names: Sequence[str]) -> str:
    """What the environment of a deployment must be, for a message. `names` are those that jobs deploy to."""
    if not names:
        return "one that a job deploys to, and no job of the pipeline deploys anywhere"
    more = len(names) - _ENVIRONMENTS_SHOWN
    shown = ", ".join(names[:_ENVIRONMENTS_SHOWN]) + (f" or {more} others" if more > 0 else "")
    return f"one that a job of the pipeline deploys to: {shown}"


def nodes_deploying(nodes: Sequence[Node], environment: str, *, is_alone: bool) -> list[Node]:
    """Those of the nodes that deploy to the environment, and what they need, directly or through others.

    With `is_alone`, nodes that deploy to other environments are left out, and what needs them needs what they need.
    Raises InvalidInput if none deploys there.
    """
    named = {node.name: node for node in nodes}
    wanted: dict[str, Node] = {}
    pending = [node.name for node in nodes if node.environment == environment]
    if not pending:
        names = sorted({node.environment for node in nodes if node.environment})
        raise InvalidInput.field("environment", f"must be {environments_shown(names)}, not {environment}")
    while pending:
        name = pending.pop()
        if name not in wanted:
            needs = list(_needs(named[name], named, environment if is_alone else None))
            wanted[name] = replace(named[name], needs=needs)
            pending += [need["node"] for need in needs]
    return [wanted[node.name] for node in nodes if node.name in wanted]


def _needs(node: Node, named: Mapping[str, Node], environment: str | None) -> Iterator[dict[str, str]]:
    """What the node needs, with the needs of those that deploy elsewhere in their place."""
    seen: set[str] = set()
    pending = list(node.needs)
    while pending:
        need = pending.pop(0)
        other = named[need["node"]]
        if other.name in seen:
            continue
        seen.add(other.name)
        if environment and other.environment not in (None, environment):
            pending += other.needs
        else:
            yield need
