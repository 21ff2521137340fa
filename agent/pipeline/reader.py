"""Reads a pipeline file by the table of its format."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any, Optional

from agent.pipeline.checks import expressions_check, graph_check, schedule_check, secrets_check
from agent.pipeline.constants import MAIN_JOB, MAX_STORED_BYTES
from agent.pipeline.definition import Job, Pipeline, Reports
from agent.pipeline.nodes import MappingNode, Node, Problems, TooManyProblems
from agent.pipeline.other_products import other_product_explain
from agent.pipeline.table import DEFINITION, GRAPH, TOP_KEYS, job_make
from agent.pipeline.yaml_nodes import compose


def definition_read(text: str, *, beside: Optional[Mapping[str, Collection[str]]] = None) -> Pipeline:
    """The pipeline that `text` defines. Raises DefinitionInvalid.

    `beside` has the jobs of a run that the text adds jobs to, each with the names of its outputs: they can be needed,
    and their names are taken.
    """
    problems = Problems()
    pipeline = root = None
    try:
        root = compose(text, problems)
        if root is not None:
            pipeline = _pipeline(root, problems, beside or {})
    except TooManyProblems:
        pass
    if problems or pipeline is None:
        if isinstance(root, MappingNode):
            other_product_explain(root, problems, own_keys=TOP_KEYS)
        raise problems.error()
    return pipeline


def _pipeline(root: Node, problems: Problems, beside: Mapping[str, Collection[str]]) -> Optional[Pipeline]:
    if isinstance(root, MappingNode) and "jobs" in root.members and "steps" not in root.members:
        return _graph(root, problems, beside)
    read = DEFINITION.read(root, problems)
    if read is None:
        return None
    main, on = read
    _size_check(main, root, problems)
    pipeline = Pipeline(jobs={MAIN_JOB: main}, on=on, is_graph=False)
    schedule_check(pipeline, root, problems)
    if not problems:
        secrets_check(main, root, problems)
    expressions_check(pipeline, problems, {})
    return pipeline


def _graph(root: MappingNode, problems: Problems, beside: Mapping[str, Collection[str]]) -> Optional[Pipeline]:
    members: Optional[dict[str, Any]] = GRAPH.read(root, problems)
    if members is None:
        return None
    nodes = root.members["jobs"]
    if not isinstance(nodes, MappingNode):
        return None
    defaults = members.pop("defaults", {})
    jobs = {}
    for name, own in members.pop("jobs", {}).items():
        node = nodes.members[name]
        jobs[name] = job_make(name, {**defaults, **own}, place=(node.line, node.column))
        _size_check(jobs[name], node, problems)
    parameters = {name: replace(read, name=name) for name, read in members.pop("parameters", {}).items()}
    pipeline = Pipeline(jobs=jobs, parameters=parameters, **members)
    graph_check(pipeline, root, problems, beside)
    return pipeline


def _size_check(job: Job, where: Node, problems: Problems) -> None:
    """Note a job that would take too much of a record."""
    # The members that are stored whatever else a job has.
    stored: dict[str, Any] = {"steps": [asdict(step) for step in job.steps], "env": job.env, "labels": job.labels}
    stored |= {"timeout": job.timeout, "retries": job.retries.max, "container": job.container}
    stored |= {"submodules": job.submodules}
    # And those that only some jobs have.
    others = {"artifacts": job.artifacts, "reports": job.reports if job.reports != Reports() else None}
    stored |= {name: asdict(value) for name, value in others.items() if value is not None}
    stored |= {"caches": [asdict(cache) for cache in job.caches]} if job.caches else {}
    lists: dict[str, list[Any]] = {"outputs": job.outputs, "inputs": job.inputs, "take": job.take}
    lists |= {"secrets": [use.as_stored() for use in job.secrets]}
    stored |= {name: value for name, value in lists.items() if value}
    size = len(json.dumps(stored, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_STORED_BYTES:
        problems.add(
            Node(where.path, where.line, where.column),
            f"must be at most {MAX_STORED_BYTES:,} bytes as JSON, not {size:,}; give long steps a `name`, or move "
            "scripts into the repository",
        )
