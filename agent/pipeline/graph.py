"""From a pipeline to the nodes of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any, Optional

from agent.pipeline.constants import ENVIRONMENT, ENVIRONMENT_FORM, IMAGE, IMAGE_FORM, LABEL, LABEL_FORM, MAX_JOBS
from agent.pipeline.definition import Cache, Concurrency, Job, Node, Pipeline
from agent.pipeline.expressions import (
    Context,
    ExpressionInvalid,
    condition_met,
    template,
    template_begin,
    template_literal,
)
from agent.pipeline.fields import Pattern
from agent.pipeline.matrices import cell_names, cells
from agent.pipeline.nodes import DefinitionInvalid, quoted

_LABEL = Pattern(LABEL, LABEL_FORM)
_IMAGE = Pattern(IMAGE, IMAGE_FORM)
_ENVIRONMENT = Pattern(ENVIRONMENT, ENVIRONMENT_FORM)


def graph_expand(
    pipeline: Pipeline, context: Context, *, beside: Optional[Mapping[str, Collection[str]]] = None
) -> list[Node]:
    """The jobs of a run in the order of the file, with the cells of matrices unfolded.

    The context knows nothing of `needs`, `env` and files. What these have to do with is left: `condition` for
    `node_runs`, the values of `env` and the name of the group for `node_finish`, when the needs have ended; and the
    keys of caches for `template`, by the agent. Everything else is as it stays: a text in it that looks like an
    expression is a value, and must not be filled in again. `beside` has the names of the nodes of the run's other jobs.

    Raises DefinitionInvalid for a value that fits no more once it is filled in, and for more than MAX_JOBS nodes.
    """
    unfolded = {name: _cells(job) for name, job in pipeline.jobs.items()}
    nodes_of = {**(beside or {}), **{name: [*made] for name, made in unfolded.items()}}
    count = sum(len(names) for names in nodes_of.values())
    if count > MAX_JOBS:
        raise DefinitionInvalid([_problem(None, "jobs", f"must be at most {MAX_JOBS:,} jobs in a run, not {count:,}")])
    problems: list[dict[str, Any]] = []
    nodes = []
    for job in pipeline.jobs.values():
        needs = [{"node": node, "result": need.result} for need in job.needs for node in nodes_of[need.job]]
        for name, cell in unfolded[job.name].items():
            filler = _Filler(job, replace(context, matrix=cell), problems)
            nodes.append(_node(pipeline, job, name, cell, needs, filler))
    if problems:
        raise DefinitionInvalid(problems)
    return nodes


def node_runs(node: Node, context: Context) -> bool:
    """Whether a node whose needs have ended runs. Raises ExpressionInvalid."""
    return condition_met(node.condition, _context_of(node, context) if node.condition else context)


def node_finish(node: Node, context: Context) -> Node:
    """The node with its variables and the name of its group filled in, when its needs have ended.

    Only the keys of caches still have something for the agent. Raises ExpressionInvalid.
    """
    own = _context_of(node, context)
    group = None if node.group is None else {**node.group, "name": template(node.group["name"], own)}
    return replace(node, env=dict(own.env or {}), group=group)


def _context_of(node: Node, context: Context) -> Context:
    """The context with the node's cell and its variables."""
    own = replace(context, matrix=node.cell, env=None)
    return replace(own, env={name: template(value, own) for name, value in node.env.items()})


def _cells(job: Job) -> dict[str, dict[str, str]]:
    """The cells by the names of their nodes; a job without a matrix has one, which is empty."""
    if job.matrix is None:
        return {job.name: {}}
    made = cells(job.matrix)
    return dict(zip(cell_names(job.name, made), made))


class _Filler:
    """Fills in the texts of one node, and notes what does not fit then."""

    def __init__(self, job: Job, context: Context, problems: list[dict[str, Any]]) -> None:
        self._job = job
        self._context = context
        self._problems = problems

    def begin(self, text: str, key: str) -> str:
        """The text with what is known now."""
        try:
            return template_begin(text, self._context)
        except ExpressionInvalid as error:
            return self._refuse(key, error.message)

    def whole(self, text: str, key: str, pattern: Optional[Pattern] = None) -> str:
        """The whole text, which then must be as the pattern says."""
        try:
            filled = template(text, self._context)
        except ExpressionInvalid as error:
            return self._refuse(key, error.message)
        if filled != text:
            if pattern is not None and not pattern.expression.fullmatch(filled):
                return self._refuse(key, f"must be {pattern.words} with its values, not {quoted(filled)!r}")
            if pattern is None and (".." in filled.split("/") or filled.startswith(("/", "~")) or not filled.strip()):
                return self._refuse(key, f"must be a path in the workspace with its values, not {quoted(filled)!r}")
        return filled

    def _refuse(self, key: str, message: str) -> str:
        if len(self._problems) < MAX_JOBS:
            self._problems.append(_problem(self._job, f"jobs.{self._job.name}.{key}", message))
        return ""


def _problem(job: Optional[Job], field: str, message: str) -> dict[str, Any]:
    line, column = (job.line, job.column) if job else (1, 1)
    return {"field": field, "line": line, "column": column, "message": message}


def _node(
    pipeline: Pipeline, job: Job, name: str, cell: dict[str, str], needs: list[dict[str, str]], filler: _Filler
) -> Node:
    fill, whole = filler.begin, filler.whole
    # The form `steps:` has nothing to fill in.
    env = {**pipeline.env, **job.env}
    labels = [whole(label, "labels", _LABEL) for label in job.labels]
    return Node(
        name=name,
        job=job.name,
        cell=cell,
        needs=needs,
        condition=job.condition,
        env={
            key: fill(value, f"env.{key}") if pipeline.is_graph else template_literal(value)
            for key, value in env.items()
        },
        labels=list(dict.fromkeys(labels)),
        timeout=job.timeout,
        retries=asdict(job.retries),
        priority=job.priority,
        group=_group(job.concurrency, fill),
        max_parallel=job.matrix.max_parallel if job.matrix else None,
        fail_fast=job.matrix.fail_fast if job.matrix else False,
        allow_failure=job.allow_failure,
        container=whole(job.container, "container", _IMAGE) if job.container else None,
        submodules=job.submodules,
        artifacts=_artifacts(job, whole),
        take=job.take,
        caches=[_cache(cache, fill, whole) for cache in job.caches],
        environment=whole(job.environment, "environment", _ENVIRONMENT) if job.environment else None,
        secrets=[use.as_stored() for use in job.secrets],
        outputs=job.outputs,
        inputs=job.inputs,
        reports=_reports(job, whole),
    )


def _group(concurrency: Optional[Concurrency], fill: Any) -> Optional[dict[str, Any]]:
    if concurrency is None:
        return None
    return {
        "name": fill(concurrency.group, "concurrency.group"),
        "limit": concurrency.limit,
        "cancel_in_progress": concurrency.cancel_in_progress,
    }


def _artifacts(job: Job, whole: Any) -> Optional[dict[str, Any]]:
    if job.artifacts is None:
        return None
    paths = [whole(path, "artifacts.paths") for path in job.artifacts.paths]
    return {"paths": paths, "expire_in": job.artifacts.expire_in}


def _cache(cache: Cache, fill: Any, whole: Any) -> dict[str, Any]:
    return {
        "key": fill(cache.key, "caches.key"),
        "restore_keys": [fill(key, "caches.restore_keys") for key in cache.restore_keys],
        "paths": [whole(path, "caches.paths") for path in cache.paths],
    }


def _reports(job: Job, whole: Any) -> dict[str, Any]:
    reports = job.reports
    if not reports.junit and not reports.coverage:
        return {}
    return {
        "junit": [whole(path, "reports.junit") for path in reports.junit],
        "coverage": whole(reports.coverage, "reports.coverage") if reports.coverage else None,
    }
