"""Parsing a pipeline definition. The reader and PyYAML take long to load, so the first text to be parsed loads them."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from apps.pipelines.definitions import MAIN_JOB, Definition, Node, Pipeline
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput


def pipeline_parse(text: str) -> Pipeline:
    """The pipeline that `text` defines.

    Raises InvalidInput with the code ``definition_invalid``; its `errors` list every mistake as
    ``{"field": "steps[1].timeout", "line": 7, "column": 5, "message": …}``, in the order of the lines.
    """
    return pipeline_extend(text, {})


def definition_parse(text: str) -> Definition:
    """What the one job of a definition in the form `steps:` stores. Raises InvalidInput as `pipeline_parse` does."""
    return Definition.of(pipeline_parse(text).jobs[MAIN_JOB])


def pipeline_extend(text: str, beside: Mapping[str, Collection[str]]) -> Pipeline:
    """The pipeline that `text` defines, whose jobs come to a run that has other ones: names and what they hand on.

    Raises InvalidInput as `pipeline_parse` does.
    """
    from agent.pipeline.reader import definition_read

    with _invalid_named():
        return definition_read(text, beside=beside)


def pipeline_expand(
    pipeline: Pipeline, context: Mapping[str, Any], *, beside: Mapping[str, Collection[str]] | None = None
) -> list[Node]:
    """The jobs of a run of the pipeline, with all cells of matrices.

    `context` has members of `agent.pipeline.expressions.Context`, and `beside` the names of the run's other jobs, each
    with its cells. Raises InvalidInput with the code ``definition_invalid``.
    """
    from agent.pipeline.expressions import Context
    from agent.pipeline.graph import graph_expand

    with _invalid_named():
        return graph_expand(pipeline, Context(**context), beside=beside)


def parameters_check(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the pipeline's parameters: what is given, or the default. Raises InvalidInput that names them."""
    from agent.pipeline.parameters import ParametersInvalid, parameters_values

    try:
        return parameters_values(pipeline.parameters, given)
    except ParametersInvalid as invalid:
        errors = [{"field": f"parameters.{name}", "message": text} for name, text in invalid.problems.items()]
        first = errors[0]
        raise InvalidInput(f"{first['field']}: {first['message']}", errors=errors) from invalid


def node_runs(node: Node, context: Mapping[str, Any]) -> bool:
    """Whether a job of a run whose needs have ended runs, by the members of a `Context`. Raises InvalidInput."""
    from agent.pipeline import graph
    from agent.pipeline.expressions import Context

    with _invalid_named():
        return graph.node_runs(node, Context(**context))


def node_finish(node: Node, context: Mapping[str, Any]) -> Node:
    """The job of a run with all that can be filled in when its needs have ended, by the members of a `Context`.

    Only the keys of caches have something left, for the agent. Raises InvalidInput.
    """
    from agent.pipeline import graph
    from agent.pipeline.expressions import Context

    with _invalid_named():
        return graph.node_finish(node, Context(**context))


def pipeline_wants(pipeline: Pipeline) -> dict[str, Any]:
    """What the file asks about the repository before the graph can be made: the trees of paths, and changed paths."""
    trees = sorted({path for job in pipeline.jobs.values() for path in job.inputs})
    changes = any("changed(" in (job.condition or "") for job in pipeline.jobs.values())
    return {**({"trees": trees} if trees else {}), **({"changes": True} if changes else {})}


@contextmanager
def _invalid_named() -> Iterator[None]:
    """Raise InvalidInput for what an expression or the graph cannot be made of."""
    from agent.pipeline.expressions import ExpressionInvalid
    from agent.pipeline.nodes import DefinitionInvalid

    try:
        yield
    except DefinitionInvalid as error:
        raise InvalidInput(error.message, code=ErrorCode.DEFINITION_INVALID, errors=error.problems) from error
    except ExpressionInvalid as error:
        raise InvalidInput(f"An expression {error.message}.", code=ErrorCode.DEFINITION_INVALID) from error
