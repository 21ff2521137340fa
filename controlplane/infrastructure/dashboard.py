"""The CloudWatch dashboard of a stage."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from troposphere import Sub, Template, cloudwatch

from controlplane.infrastructure.alarms import API_PARAMETER
from controlplane.infrastructure.names import PROJECT, function_name, log_group_name
from controlplane.infrastructure.schema import TableSchema
from controlplane.infrastructure.stages import Stage
from controlplane.lib import metric_names

_COLUMNS = 24
_WIDTH, _HEIGHT = 8, 6


def dashboard_add(
    template: Template, stage: Stage, tables: Sequence[TableSchema], alarm_names: Sequence[str]
) -> cloudwatch.Dashboard:
    """Add the dashboard: the alarms on top, then the gateway and the function, jobs and agents, tables, addresses."""
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
    graphs = list(_graphs(stage, tables))
    for number, (title, metrics, options) in enumerate(graphs):
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
    rows = -(-len(graphs) // (_COLUMNS // _WIDTH))
    widgets += _tables_of_logs(stage, 4 + rows * _HEIGHT)
    return template.add_resource(
        cloudwatch.Dashboard(
            "Dashboard",
            DashboardName=f"{PROJECT}-{stage.name}",
            DashboardBody=Sub(json.dumps({"widgets": widgets}, separators=(",", ":"))),
        )
    )


_Graph = tuple[str, list[list[Any]], dict[str, Any]]


def _graphs(stage: Stage, tables: Sequence[TableSchema]) -> Iterator[_Graph]:
    """Every metric is named in full. A search would find no table: its quoted terms are compared as a whole."""
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
        [
            [metric_names.NAMESPACE, name, *own, {"stat": "Sum"}]
            for name in (metric_names.JOBS_COMPLETED, metric_names.JOBS_FAILED, metric_names.LOG_ARCHIVE_FAILURES)
        ],
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
    yield (
        "DynamoDB throttled, as the function saw it",
        [[metric_names.NAMESPACE, metric_names.DYNAMODB_THROTTLES, *own, {"stat": "Sum"}]],
        {},
    )
    yield "Read units", _of_tables(stage, tables, "ConsumedReadCapacityUnits"), {}
    yield "Written units", _of_tables(stage, tables, "ConsumedWriteCapacityUnits"), {}
    yield "Throttled reads", _of_tables(stage, tables, "ReadThrottleEvents"), {}
    yield "Throttled writes", _of_tables(stage, tables, "WriteThrottleEvents"), {}


def _of_tables(stage: Stage, tables: Sequence[TableSchema], metric: str) -> list[list[Any]]:
    """A line for each table and for each index."""
    lines: list[list[Any]] = []
    for table in tables:
        place = ["AWS/DynamoDB", metric, "TableName", table.full_name(stage.name)]
        lines.append([*place, {"stat": "Sum", "label": table.name}])
        lines += [
            [*place, "GlobalSecondaryIndexName", index.name, {"stat": "Sum", "label": f"{table.name}/{index.name}"}]
            for index in table.indexes
        ]
    return lines


def _limit(label: str, value: int | None) -> dict[str, Any]:
    return {} if value is None else {"annotations": {"horizontal": [{"label": label, "value": value}]}}


# Titles, and queries of Logs Insights on the figures that the function writes of each address.
_QUERIES = (
    (
        "Addresses by time, ms",
        "stats sum(milliseconds) / sum(requests) as mean, max(slowest) as longest, sum(requests) as number by route",
    ),
    (
        "Addresses by failures and cost",
        "stats sum(failed) as n5xx, sum(refused) as n4xx, sum(read_units) as read, sum(write_units) as write by route",
    ),
)


def _tables_of_logs(stage: Stage, first_row: int) -> Iterator[dict[str, Any]]:
    for number, (title, query) in enumerate(_QUERIES):
        yield {
            "type": "log",
            "x": number * _COLUMNS // len(_QUERIES),
            "y": first_row,
            "width": _COLUMNS // len(_QUERIES),
            "height": _HEIGHT,
            "properties": {
                "title": title,
                "region": "${AWS::Region}",
                "view": "table",
                "query": f"SOURCE '{log_group_name(stage.name)}' | filter ispresent(requests) | {query}",
            },
        }
