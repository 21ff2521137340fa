"""What must be true of a graph of jobs as a whole: its needs, its size, and what its expressions name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Optional

from agent.pipeline.constants import MAX_JOBS, MAX_NEEDS
from agent.pipeline.definition import Job, Pipeline, names_before
from agent.pipeline.expressions import ExpressionInvalid, Scope, condition_check, template_check
from agent.pipeline.matrices import cells, combinations
from agent.pipeline.nodes import ListNode, MappingNode, Node, Problems, quoted
from agent.pipeline.parameters import parameters_problems

# Of all matrices together, before `exclude` leaves some out: so many are counted soon.
MAX_COMBINATIONS = 5000


def graph_check(
    pipeline: Pipeline, root: MappingNode, problems: Problems, beside: Mapping[str, Collection[str]]
) -> None:
    """Note what is wrong with the graph whose text is `root`. `beside` has the outputs of other jobs of the run."""
    jobs = root.members["jobs"]
    if not isinstance(jobs, MappingNode):
        return
    for name in jobs.members:
        if name in beside:
            problems.add(jobs.members[name], "must have another name; the run already has a job of this name")
    schedule_check(pipeline, root, problems)
    for job in pipeline.jobs.values():
        _needs_check(job, jobs.members[job.name], {*jobs.members, *beside}, problems)
    cycle = _cycle(pipeline.jobs)
    if cycle and len(cycle) > 2:
        where = _part(jobs.members[cycle[0]], "needs")
        problems.add(where, f"must not lead back to the job itself: {' → '.join(cycle)}")
    if problems:
        return
    for job in pipeline.jobs.values():
        secrets_check(job, jobs.members[job.name], problems)
    _takes_check(pipeline.jobs, jobs, beside, problems)
    _count_check(pipeline, jobs, problems)
    if not problems:
        expressions_check(pipeline, problems, beside)


def _needs_check(job: Job, node: Node, names: Collection[str], problems: Problems) -> None:
    needs = _part(node, "needs")
    entries = needs.entries if isinstance(needs, ListNode) else [needs] * len(job.needs)
    seen: set[str] = set()
    for need, entry in zip(job.needs, entries):
        where = _part(entry, "job")
        if need.job == job.name:
            problems.add(where, f"must not be the job itself, {quoted(need.job)!r}")
        elif need.job not in names:
            problems.add(where, _unknown_job(need.job, names))
        elif need.job in seen:
            problems.add(where, f"must name each job once; {quoted(need.job)!r} is already in the list")
        seen.add(need.job)


def schedule_check(pipeline: Pipeline, root: Node, problems: Problems) -> None:
    """The values that a time gives to parameters are those of the pipeline's parameters."""
    times = _part(_part(root, "on"), "schedule")
    entries = times.entries if isinstance(times, ListNode) else []
    for time, entry in zip(pipeline.on.get("schedule", ()), entries):
        given = _part(entry, "parameters")
        for name, message in parameters_problems(pipeline.parameters, time.get("parameters", {})).items():
            problems.add(_part(given, name), message)


def secrets_check(job: Job, node: Node, problems: Problems) -> None:
    """Each secret of the job has a name of its own, also beside the variables that the job and its steps set.

    Those of all jobs are no mistake: the secret counts.
    """
    secrets = _part(node, "secrets")
    entries = secrets.entries if isinstance(secrets, ListNode) else []
    variables = {*job.env, *(name for step in job.steps for name in step.env)}
    seen: set[str] = set()
    for use, entry in zip(job.secrets, entries):
        where = _part(entry, "name")
        if use.name in seen:
            problems.add(where, f"must name each secret once; {use.name!r} is already in the list")
        elif use.name in variables:
            problems.add(where, f"must not be a variable in `env` as well; remove {use.name} there, or rename one")
        seen.add(use.name)


def _unknown_job(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(names)[:20])}"
    return f"must be a job of this file, not {quoted(name)!r}; {hint}"


def _cycle(jobs: Mapping[str, Job]) -> Optional[list[str]]:
    """The names along one circle of needs, the first of which is also the last. None if there is no circle."""
    done: set[str] = set()
    for start in jobs:
        path: list[str] = []
        # The names that are on the path, each with what is still to follow of it. A graph may be deep.
        waiting: dict[str, Iterator[str]] = {}
        following: Optional[str] = start
        while following is not None:
            if following in waiting:
                return [*path[path.index(following) :], following]
            if following in jobs and following not in done:
                path.append(following)
                waiting[following] = iter([need.job for need in jobs[following].needs])
            following = _further(path, waiting, done)
    return None


def _further(path: list[str], waiting: dict[str, Iterator[str]], done: set[str]) -> Optional[str]:
    """The next name to follow; names of which all is done leave the path."""
    while path:
        following = next(waiting[path[-1]], None)
        if following is not None:
            return following
        name = path.pop()
        del waiting[name]
        done.add(name)
    return None


def _takes_check(
    jobs: Mapping[str, Job], nodes: MappingNode, beside: Mapping[str, Collection[str]], problems: Problems
) -> None:
    """Artifacts come from jobs that have ended before. What jobs of `beside` need is not known here."""
    needs = {job.name: [need.job for need in job.needs] for job in jobs.values()}
    for job in jobs.values():
        node = _part(nodes.members[job.name], "artifacts")
        has_artifacts = node is not nodes.members[job.name]
        if has_artifacts and not job.take and job.artifacts is None:
            problems.add(node, "must have `paths` or `from`")
        if not job.take:
            continue
        before = names_before(job.name, needs)
        for name in job.take:
            if name not in before and not (name in beside and before & beside.keys()):
                problems.add(
                    _part(node, "from"), f"must be a job that this one needs; add {quoted(name)!r} to its `needs`"
                )


def _count_check(pipeline: Pipeline, nodes: MappingNode, problems: Problems) -> None:
    """Note a run that would have too many jobs. Nothing is unfolded before its size is known."""
    counted = 0
    counts: dict[str, int] = {}
    for job in pipeline.jobs.values():
        if job.matrix is None:
            counts[job.name] = 1
            continue
        node = _part(nodes.members[job.name], "matrix")
        for entry in job.matrix.exclude:
            _axes_check(entry, job, _part(node, "exclude"), problems)
        counted += combinations(job.matrix)
        if counted > MAX_COMBINATIONS:
            problems.add(node, f"must have fewer cells: all matrices together have more than {MAX_COMBINATIONS:,}")
            return
        made = len(cells(job.matrix))
        if made == 0:
            problems.add(node, "must have at least one cell; write `axes` or `include`")
        counts[job.name] = made
    total = sum(counts.values())
    if total > MAX_JOBS:
        problems.add(nodes, f"must be at most {MAX_JOBS:,} jobs with the cells of all matrices, not {total:,}")
    needs = sum(counts[job.name] * counts.get(need.job, 1) for job in pipeline.jobs.values() for need in job.needs)
    if needs > MAX_NEEDS:
        problems.add(nodes, f"must have at most {MAX_NEEDS:,} needs with the cells of all matrices, not {needs:,}")


def _axes_check(entry: Mapping[str, str], job: Job, where: Node, problems: Problems) -> None:
    axes = job.matrix.axes if job.matrix else {}
    for axis in entry:
        if axis not in axes:
            close = difflib.get_close_matches(axis, axes, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(axes) or 'none'}"
            problems.add(where, f"must name axes of the matrix, not {quoted(axis)!r}; {hint}")


def expressions_check(pipeline: Pipeline, problems: Problems, beside: Mapping[str, Collection[str]]) -> None:
    """Note the expressions that name what there is not, or compare what cannot be compared."""
    outputs = {**beside, **{name: job.outputs for name, job in pipeline.jobs.items()}}
    for node, place in problems.expressions:
        top, *inner = node.path.split(".")
        job = pipeline.jobs[inner[0]] if top == "jobs" else None
        scope = _scope(pipeline, job, place, outputs, is_default=top == "defaults")
        try:
            if place == "condition":
                condition_check(node.text, scope)
            else:
                template_check(node.text, scope)
        except ExpressionInvalid as error:
            problems.add(node.at(error.offset), error.message)


def _scope(
    pipeline: Pipeline,
    job: Optional[Job],
    place: str,
    outputs: Mapping[str, Collection[str]],
    *,
    is_default: bool,
) -> Scope:
    """What an expression may name at this place of this job, or of the whole file.

    The places: ``condition`` is `if`; ``env`` and ``group`` are filled in when the needs have ended; ``early`` and
    ``files`` are filled in before, and the latter again by the agent; ``agent`` is filled in by the agent alone. A
    default may name the axes that any job has.
    """
    if place == "agent":
        return Scope(has_files=True, has_run=False)
    types = {name: parameter.type for name, parameter in pipeline.parameters.items()}
    if job is None:
        axes = {axis for other in pipeline.jobs.values() for axis in _axes(other)} if is_default else None
        return Scope(parameters=types, axes=axes, has_files=place == "files")
    is_late = place in ("condition", "env", "group")
    return Scope(
        parameters=types,
        axes=_axes(job),
        needs={need.job: outputs[need.job] for need in job.needs} if is_late else None,
        env={**pipeline.env, **job.env} if place in ("condition", "group") else None,
        jobs=outputs,
        is_condition=place == "condition",
        has_files=place == "files",
    )


def _axes(job: Job) -> set[str]:
    if job.matrix is None:
        return set()
    return {*job.matrix.axes, *(name for entry in job.matrix.include for name in entry)}


def _part(node: Node, name: str) -> Node:
    """The value of a key of the node, or the node itself if it has no such key."""
    return node.members.get(name, node) if isinstance(node, MappingNode) else node
