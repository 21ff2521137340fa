"""The format of a pipeline file as a JSON Schema, which editors use for completion. It is made from `table`."""

from __future__ import annotations

from agent.pipeline.fields import Json
from agent.pipeline.table import DEFINITION, GRAPH

SCHEMA_PATH = "/schema/pipeline.json"


def pipeline_schema() -> Json:
    """The schema, draft 2020-12. It refuses less than the reader: a valid file is valid for both."""
    steps, graph = DEFINITION.schema(), GRAPH.schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pipeline file",
        "description": "A file .hybrid-ci.yml: the steps of one job in `steps`, or several jobs in `jobs`.",
        "type": "object",
        # Editors offer the keys of both forms; what is given decides which of them stay.
        "properties": {**steps["properties"], **graph["properties"]},
        "additionalProperties": False,
        "oneOf": [{"required": ["steps"]}, {"required": ["jobs"]}],
        "dependentSchemas": {
            "steps": {"properties": _others(steps, graph)},
            "jobs": {"properties": _others(graph, steps)},
        },
    }


def _others(form: Json, other: Json) -> Json:
    """Refuses the keys that only the other form has."""
    return {name: False for name in other["properties"] if name not in form["properties"]}
