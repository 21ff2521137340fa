"""The CloudWatch dashboard of a stage."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from troposphere import Sub, Template, cloudwatch

from controlplane.infrastructure.alarms import API_PARAMETER
from controlplane.infrastructure.names import PROJECT, function_name
from controlplane.infrastructure.stages import Stage
from controlplane.lib import metric_names

_COLUMNS = 24
_WIDTH, _HEIGHT = 8, 6


def dashboard_add(template: Template, stage: Stage, alarm_names: Sequence[str]) -> cloudwatch.Dashboard:
    """Add the dashboard: the alarms on top, then the gateway and the function, jobs and agents, the tables."""
    arn = "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:"
    widgets: list[dict[str, Any]] = [
        {
            "type": "alarm",
            "x": 0,
            "y": 0,
            "width": _COLUMNS,
            "height": 4,
            "properties": {"title": "Alarms", "alarms": [f"{arn}{name}" for name in alarm_names]},
        }
    ]
    for number, (title, metrics, options) in enumerate(_graphs(stage)):
        row, column = divmod(number, _COLUMNS // _WIDTH)
        widgets.append(
            {
                "type": "metric",
                "x": column * _WIDTH,
                "y": 4 + row * _HEIGHT,
                "width": _WIDTH,
                "height": _HEIGHT,
                "properties": {"title": title, "region": "${AWS::Region}", "metrics": metrics, "period": 60, **options},
            }
        )
    return template.add_resource(
        cloudwatch.Dashboard(
            "Dashboard",
            DashboardName=f"{PROJECT}-{stage.name}",
            DashboardBody=Sub(json.dumps({"widgets": widgets}, separators=(",", ":"))),
        )
    )


_Graph = tuple[str, list[list[Any]], dict[str, Any]]


def _graphs(stage: Stage) -> Iterator[_Graph]:
    gateway = ["ApiId", f"${{{API_PARAMETER}}}"]
    function = ["FunctionName", function_name(stage.name)]
    own = [metric_names.STAGE, stage.name]
    yield (
        "Requests",
        [["AWS/ApiGateway", name, *gateway, {"stat": "Sum"}] for name in ("Count", "4xx", "5xx")],
        {},
    )
    yield (
        "Latency, ms",
        [["AWS/ApiGateway", "Latency", *gateway, {"stat": stat}] for stat in ("p50", "p95", "p99")],
        {},
    )
    yield (
        "Function: time, ms",
        [["AWS/Lambda", "Duration", *function, {"stat": stat}] for stat in ("p50", "p99", "Maximum")],
        {},
    )
    yield (
        "Function: calls",
        [["AWS/Lambda", name, *function, {"stat": "Sum"}] for name in ("Invocations", "Errors", "Throttles")],
        {},
    )
    yield (
        "Function: at once",
        [["AWS/Lambda", "ConcurrentExecutions", *function, {"stat": "Maximum"}]],
        _limit("reserved", stage.reserved_concurrency),
    )
    yield (
        "Jobs waiting",
        [
            [metric_names.NAMESPACE, metric_names.QUEUE_DEPTH, *own, {"stat": "Maximum"}],
            [metric_names.NAMESPACE, metric_names.OLDEST_WAIT, *own, {"stat": "Maximum", "yAxis": "right"}],
        ],
        {},
    )
    yield (
        "Agents",
        [[metric_names.NAMESPACE, name, *own, {"stat": "Maximum"}] for name in metric_names.AGENTS.values()],
        {},
    )
    yield (
        "Jobs ended",
        [[metric_names.NAMESPACE, name, *own, {"stat": "Sum"}] for name in metric_names.JOBS_ENDED.values()],
        {},
    )
    yield (
        "Jobs: waited and ran, s",
        [
            [metric_names.NAMESPACE, name, *own, {"stat": stat}]
            for name in (metric_names.JOB_WAIT, metric_names.JOB_RUN)
            for stat in ("p50", "p95")
        ],
        {},
    )
    yield "Latency by address, p95 in ms", [_by_dimension(stage, metric_names.LATENCY, metric_names.ROUTE, "p95")], {}
    yield (
        "DynamoDB a request",
        [
            [metric_names.NAMESPACE, name, *own, {"stat": "Average"}]
            for name in (metric_names.DYNAMODB_CALLS, metric_names.READ_UNITS, metric_names.WRITE_UNITS)
        ],
        {},
    )
    yield "Read units by table", [_by_table(stage, "ConsumedReadCapacityUnits")], {}
    yield "Written units by table", [_by_table(stage, "ConsumedWriteCapacityUnits")], {}
    yield "Throttled by table", [_by_table(stage, "ThrottledRequests", "TableName,Operation")], {}


def _by_dimension(stage: Stage, metric: str, dimension: str, statistic: str) -> list[Any]:
    """One of our own metrics, with a line for each value of its second dimension."""
    kind = f"{{{metric_names.NAMESPACE},{metric_names.STAGE},{dimension}}}"
    search = f'{kind} MetricName="{metric}" {metric_names.STAGE}="{stage.name}"'
    return [{"expression": f"SEARCH('{search}', '{statistic}', 60)", "label": ""}]


def _by_table(stage: Stage, metric: str, dimensions: str = "TableName") -> list[Any]:
    """All tables of the stage, also future ones."""
    search = f'{{AWS/DynamoDB,{dimensions}}} MetricName="{metric}" TableName=("{PROJECT}-" "-{stage.name}")'
    return [{"expression": f"SEARCH('{search}', 'Sum', 60)", "label": ""}]


def _limit(label: str, value: int | None) -> dict[str, Any]:
    return {} if value is None else {"annotations": {"horizontal": [{"label": label, "value": value}]}}
