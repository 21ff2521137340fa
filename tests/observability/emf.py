"""Reads metrics as CloudWatch does: the rules of AWS's specification of the embedded metric format.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Mapping
from typing import Any

import jsonschema

_NAME = {"type": "string", "minLength": 1, "maxLength": 1024}
_UNITS = ["Count", "Milliseconds", "Seconds"]

_DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": {"type": "string", "pattern": r"^[^:$].{0,254}$"},
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "maxItems": 30, "items": {"type": "string", "maxLength": 250}},
        },
        "Metrics": {
            "type": "array",
            "minItems": 1,
            "maxItems": 100,
            "items": {
                "type": "object",
                "required": ["Name", "Unit"],
                "properties": {"Name": _NAME, "Unit": {"enum": _UNITS}},
                "additionalProperties": False,
            },
        },
    },
}

_SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 1_500_000_000_000},
                "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": _DIRECTIVE},
            },
        }
    },
}

Series = dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]


def metrics_read(line: Mapping[str, Any]) -> Series:
    """The values of a line by name and dimensions. Fails for values that CloudWatch would ignore."""
    jsonschema.validate(line, _SCHEMA)
    found: Series = {}
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = tuple((name, line[name]) for name in names)
            assert all(isinstance(value, str) and 0 < len(value) <= 1024 for _, value in dimensions)
            for metric in directive["Metrics"]:
                values = line[metric["Name"]]
                values = values if isinstance(values, list) else [values]
                assert 0 < len(values) <= 100
                assert all(isinstance(value, int | float) for value in values)
                found.setdefault((metric["Name"], (("Namespace", directive["Namespace"]), *dimensions)), []).extend(
                    values
                )
    return found
