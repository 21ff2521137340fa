"""``make cost``: the monthly costs of the control plane on AWS, from measured units (units.json) and assumptions.

Prices are AWS's on-demand prices of November 2026, without taxes and support, and without free tiers except those
that never end. They change: compare them with the pages named at `PRICES` before you rely on them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.units import CHUNK_BYTES, FILE, LOG_CHUNKS, Units
from controlplane.infrastructure.stages import STAGES, Capacity

# --- assumptions ---

DAYS, HOURS = 30, 730
MONTH = DAYS * 86_400
JOB_SECONDS = 300
# Seconds between two heartbeats of an agent with a job (agent/heartbeat.py), and of an agent without one
# (AGENT_CHECK_SECONDS).
BUSY_SECONDS, IDLE_SECONDS = 10, 15
# A program that queued a job reads it every 30 s.
LOOKS_PER_JOB = JOB_SECONDS // 30
# An open dashboard refreshes every 2 s while jobs run. People leave it open for 8 hours on 21 of 30 days.
DASHBOARD_SECONDS, DASHBOARD_MONTH = 2, 8 * 3600 * 21
# Milliseconds that Lambda bills for a request: two calls to DynamoDB, and the time of `make benchmark-lambda` on a
# part of a processor. This is an assumption, because there is no account to measure it in.
BILLED_MS = {512: 30, 1024: 18}
SWEEP_MS = 300
# Bytes of Lambda's own log lines per invocation, and of a line of our metrics. A busy process writes six in ten s.
LOG_LINE, METRIC_LINE, METRIC_LINES_PER_SECOND = 300, 500, 0.6
# Our own metrics in use (controlplane/lib/metric_names.py), with each value of their second dimension, and those that
# only the sweep writes.
METRICS, IDLE_METRICS = 40, 7
# Bytes of a response with its headers.
ANSWER_BYTES = 1_000
# X-Ray samples one request a second, and 5 % of the others.
TRACES_PER_SECOND, TRACES_SHARE = 1, 0.05
# Bytes of a job's record, its audit events and counters.
RECORD_BYTES = 5_000
# Seconds for which DynamoDB uses a table's data key before it requests it from KMS again.
KEY_KEPT_SECONDS = 300
# The memory size of zappa_settings.json.
REGION = "eu-central-1"
GB = 1e9
MILLION = 1e6


@dataclass(frozen=True)
class Prices:
    """US dollars: per million units and requests, per hour of a provisioned unit, per GB and month of storage."""

    lambda_gb_second: float
    lambda_requests: float
    api_requests: float
    write_units: float
    read_units: float
    provisioned_write: float
    provisioned_read: float
    table_gb: float
    backup_gb: float
    logs_gb: float
    metric: float
    alarm: float
    traces: float
    key: float
    key_requests: float
    put_requests: float
    object_gb: float
    data_out_gb: float


# From aws.amazon.com: /lambda/pricing, /api-gateway/pricing, /dynamodb/pricing/on-demand and …/provisioned,
# /cloudwatch/pricing, /xray/pricing, /kms/pricing, /s3/pricing, and /ec2/pricing/on-demand for data transfer.
PRICES = {
    "eu-central-1": Prices(
        lambda_gb_second=0.0000166667,
        lambda_requests=0.20,
        api_requests=1.20,
        write_units=0.7625,
        read_units=0.1525,
        provisioned_write=0.000793,
        provisioned_read=0.0001586,
        table_gb=0.306,
        backup_gb=0.2448,
        logs_gb=0.63,
        metric=0.30,
        alarm=0.10,
        traces=5.00,
        key=1.00,
        key_requests=3.00,
        put_requests=5.40,
        object_gb=0.0245,
        data_out_gb=0.09,
    ),
    "us-east-1": Prices(
        lambda_gb_second=0.0000166667,
        lambda_requests=0.20,
        api_requests=1.00,
        write_units=0.625,
        read_units=0.125,
        provisioned_write=0.00065,
        provisioned_read=0.00013,
        table_gb=0.25,
        backup_gb=0.20,
        logs_gb=0.50,
        metric=0.30,
        alarm=0.10,
        traces=5.00,
        key=1.00,
        key_requests=3.00,
        put_requests=5.00,
        object_gb=0.023,
        data_out_gb=0.09,
    ),
}
# Free each month for ever: alarms, metrics, GB of logs, of tables and of data out, traces, requests to KMS.
FREE = {"alarms": 10, "metrics": 10, "logs": 5, "tables": 25, "out": 100, "traces": 100_000, "key": 20_000}


@dataclass(frozen=True)
class Load:
    """The use of the control plane: agents, jobs and people."""

    agents: int
    jobs_a_day: int
    dashboards: int

    @property
    def busy(self) -> float:
        """The average number of agents that run a job at the same time."""
        return self.jobs_a_day * JOB_SECONDS / 86_400


SMALL = Load(agents=12, jobs_a_day=1_000, dashboards=2)
LARGE = Load(agents=1_000, jobs_a_day=100_000, dashboards=20)


def operations(load: Load, *, idle_seconds: float = IDLE_SECONDS) -> dict[str, float]:
    """How often each operation of units.json happens in a month."""
    jobs = load.jobs_a_day * DAYS
    return {
        "idle heartbeat": max(load.agents - load.busy, 0) * MONTH / idle_seconds,
        "busy heartbeat": min(load.busy, load.agents) * MONTH / BUSY_SECONDS,
        "claiming heartbeat": jobs,
        "enqueue": jobs,
        "start": jobs,
        "log chunk": jobs * LOG_CHUNKS,
        "finish": jobs,
        "store a log": jobs,
        "look at a job": jobs * LOOKS_PER_JOB,
        "overview": load.dashboards * DASHBOARD_MONTH / DASHBOARD_SECONDS,
        "sweep": MONTH / 60,
    }


# The schedule performs these, without a request.
_SCHEDULED = ("store a log", "sweep")


def units_used(done: dict[str, float]) -> dict[str, list[float]]:
    """Read and write units of a month, by table and index."""
    measured: Units = json.loads(FILE.read_text())
    used: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for operation, times in done.items():
        for part, units in measured[operation].items():
            for kind, number in enumerate(units):
                used[part][kind] += number * times
    return used


def database_on_demand(used: dict[str, list[float]], prices: Prices) -> float:
    reads, writes = (sum(units[kind] for units in used.values()) for kind in (0, 1))
    return (reads * prices.read_units + writes * prices.write_units) / MILLION


def database_provisioned(used: dict[str, list[float]], prices: Prices, capacity: Capacity) -> float:
    """The costs when auto-scaling keeps each table and index at its target under an even load, or at its minimum."""
    reads = writes = 0.0
    for part in _parts():
        read, write = (units / MONTH / (capacity.target_percent / 100) for units in used.get(part, (0, 0)))
        reads += max(read, capacity.units)
        writes += max(write, capacity.units)
    return (reads * prices.provisioned_read + writes * prices.provisioned_write) * HOURS


def _parts() -> list[str]:
    from controlplane.infrastructure.schema import table_schemas

    return [
        name for table in table_schemas() for name in (table.name, *(f"{table.name}/{i.name}" for i in table.indexes))
    ]


def alarm_count(stage: str) -> int:
    from controlplane.infrastructure.template import stage_template

    resources = json.loads(stage_template(STAGES[stage]).to_json())["Resources"].values()
    return sum(resource["Type"] == "AWS::CloudWatch::Alarm" for resource in resources)


def bill(
    load: Load, stage: str, region: str, *, provisioned: bool, idle_seconds: float = IDLE_SECONDS
) -> dict[str, float]:
    """Dollars per month by service."""
    prices, memory = PRICES[region], STAGES[stage].memory_mb
    done = operations(load, idle_seconds=idle_seconds)
    requests = sum(times for name, times in done.items() if name not in _SCHEDULED)
    used, sweeps, jobs = units_used(done), done["sweep"], load.jobs_a_day * DAYS
    seconds = (requests * BILLED_MS[memory] + sweeps * SWEEP_MS) / 1000
    processes = max(seconds / MONTH, 1)
    logged = ((requests + sweeps) * LOG_LINE + processes * METRIC_LINES_PER_SECOND * MONTH * METRIC_LINE) / GB
    spared = max(requests - TRACES_PER_SECOND * MONTH, 0)
    traced = requests - spared * (1 - TRACES_SHARE)
    log_bytes = jobs * LOG_CHUNKS * CHUNK_BYTES
    # Log chunks stay in the table for two weeks. Archived logs stay in the bucket, here for a year.
    tables = (log_bytes / DAYS * 14 + jobs * RECORD_BYTES) / GB
    key_requests = sum("/" not in part for part in _parts()) * MONTH / KEY_KEPT_SECONDS + jobs
    metrics = METRICS if load.agents else IDLE_METRICS
    return {
        "API Gateway": requests * prices.api_requests / MILLION,
        "Lambda": seconds * memory / 1024 * prices.lambda_gb_second
        + (requests + sweeps) * prices.lambda_requests / MILLION,
        "DynamoDB": _database(used, prices, provisioned=provisioned),
        "DynamoDB, storage and backups": max(tables - FREE["tables"], 0) * prices.table_gb + tables * prices.backup_gb,
        "CloudWatch, logs": max(logged - FREE["logs"], 0) * prices.logs_gb,
        "CloudWatch, alarms": max(alarm_count(stage) - FREE["alarms"], 0) * prices.alarm,
        "CloudWatch, metrics": max(metrics - FREE["metrics"], 0) * prices.metric,
        "X-Ray": max(traced - FREE["traces"], 0) * prices.traces / MILLION,
        "KMS": prices.key + max(key_requests - FREE["key"], 0) * prices.key_requests / MILLION,
        "S3": jobs * prices.put_requests / MILLION + log_bytes * 12 / GB * prices.object_gb,
        "data out": max(requests * ANSWER_BYTES / GB - FREE["out"], 0) * prices.data_out_gb,
    }


def _database(used: dict[str, list[float]], prices: Prices, *, provisioned: bool) -> float:
    capacity = STAGES["production"].capacity
    if not provisioned or capacity is None:
        return database_on_demand(used, prices)
    return database_provisioned(used, prices, capacity)


# The columns: heading, load, stage, and whether the tables are provisioned.
_CASES = (
    ("12 agents, staging", SMALL, "staging", False),
    ("12 agents, production", SMALL, "production", True),
    ("the same, on demand", SMALL, "production", False),
    ("1,000 agents, production", LARGE, "production", True),
    ("the same, on demand", LARGE, "production", False),
)
_INTERVALS = (5, 10, 15, 20)


def tables() -> Iterator[str]:
    """The lines of the tables in docs/operations.md."""
    bills = [bill(load, stage, REGION, provisioned=provisioned) for _, load, stage, provisioned in _CASES]
    yield _row(f"$ a month, {REGION}", *(heading for heading, *_ in _CASES))
    yield _row("---", *("---:" for _ in _CASES))
    for line in bills[0]:
        yield _row(line, *(_dollars(each[line]) for each in bills))
    yield _row("**all**", *(f"**{_dollars(sum(each.values()))}**" for each in bills))
    elsewhere = [bill(load, stage, "us-east-1", provisioned=provisioned) for _, load, stage, provisioned in _CASES]
    yield _row("all, in us-east-1", *(_dollars(sum(each.values())) for each in elsewhere))
    idle = [bill(Load(0, 0, 0), stage, REGION, provisioned=provisioned) for _, _, stage, provisioned in _CASES]
    yield _row("all, without agents and jobs", *(_dollars(sum(each.values())) for each in idle))
    yield ""
    yield _row("`AGENT_CHECK_SECONDS`", *(str(seconds) for seconds in _INTERVALS))
    yield _row("---", *("---:" for _ in _INTERVALS))
    for heading, load, stage, provisioned in (_CASES[0], _CASES[4]):
        name = heading if stage == "staging" else "1,000 agents, production on demand"
        totals = [
            sum(bill(load, stage, REGION, provisioned=provisioned, idle_seconds=seconds).values())
            for seconds in _INTERVALS
        ]
        yield _row(name, *map(_dollars, totals))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _dollars(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}"


def main() -> None:
    """Print the tables."""
    import django

    django.setup()
    print("\n".join(tables()))


if __name__ == "__main__":
    main()
