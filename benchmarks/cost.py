"""``make cost``: the monthly costs of the control plane on AWS, from measured units (units.json) and assumptions.

Prices are AWS's on-demand prices of November 2026, without taxes and support, and without free tiers except those
that never end. They change: compare them with the pages named at `PRICES` before you rely on them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.units import CHUNK_BYTES, FILE, LOG_CHUNKS, Units
from controlplane.infrastructure.stages import CAPACITY, ON_DEMAND, PROVISIONED, STAGES, Stage

# --- assumptions ---

DAYS, HOURS = 30, 730
MONTH = DAYS * 86_400
JOB_SECONDS = 300
# Seconds between two heartbeats of an agent with a job (agent/heartbeat.py), and of an agent without one
# (AGENT_CHECK_SECONDS).
BUSY_SECONDS, IDLE_SECONDS = 10, 15
# A program that queued a job reads it every 30 s.
LOOKS_PER_JOB = JOB_SECONDS // 30
# The minutes in which a job leaves audit events: when it is queued, starts and ends.
MINUTES_PER_JOB = 3
# An open dashboard refreshes every 2 s while jobs run, two parts less often. People leave it open for 8 hours
# on 21 of 30 days.
DASHBOARD_SECONDS, DASHBOARD_MONTH = 2, 8 * 3600 * 21
RECENT_SECONDS, LATEST_SECONDS = 30, 60
# Milliseconds that Lambda bills for a request: two calls to DynamoDB, and the time of `make benchmark-lambda` on a
# part of a processor. This is an assumption, because there is no account to measure it in.
BILLED_MS = {512: 30, 1024: 18}
SWEEP_MS = 300
# Bytes of Lambda's own log lines per invocation, of a line of the gateway's access log, and of a line of our figures. A
# busy process writes eight of these in ten s.
LOG_LINE, ACCESS_LINE, METRIC_LINE, METRIC_LINES_PER_SECOND = 300, 350, 350, 0.8
# Our own metrics (controlplane/lib/metric_names.py) without that of rotations that need a user, and those of them that
# only the sweep writes.
METRICS, IDLE_METRICS = 10, 4
# Auto-scaling makes so many alarms for the reads and as many for the writes of each table and index that it scales.
SCALING_ALARMS = 4
# Bytes of a response with its headers.
ANSWER_BYTES = 1_000
# X-Ray, where XRAY_TRACING is set, samples one request a second, and 5 % of the others.
TRACES_PER_SECOND, TRACES_SHARE = 1, 0.05
# Bytes of a job's record, its audit events with their index entries, and counters.
RECORD_BYTES = 8_000
# Seconds for which DynamoDB uses a table's data key before it requests it from KMS again.
KEY_KEPT_SECONDS = 300
# The key that encrypts, and the key that signs. Signatures are for identity tokens and for minutes with audit events;
# 10,000 of them cost 3 cents.
KEYS = 2
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
# Free each month for ever, for all stages of an account together: invocations and GB-seconds of Lambda, alarms,
# metrics, GB of logs, of tables and of data out, traces, requests to KMS.
FREE = {
    "invocations": 1_000_000,
    "gb_seconds": 400_000,
    "alarms": 10,
    "metrics": 10,
    "logs": 5,
    "tables": 25,
    "out": 100,
    "traces": 100_000,
    "key": 20_000,
}


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
IDLE = Load(agents=0, jobs_a_day=0, dashboards=0)
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
        "recent runs": load.dashboards * DASHBOARD_MONTH / RECENT_SECONDS,
        "latest acts": load.dashboards * DASHBOARD_MONTH / LATEST_SECONDS,
        "sweep": MONTH / 60,
        "seal a minute": min(jobs * MINUTES_PER_JOB, MONTH / 60),
    }


# The schedule performs these, without a request.
_SCHEDULED = ("store a log", "sweep", "seal a minute")


def units_used(done: dict[str, float]) -> dict[str, list[float]]:
    """Read and write units of a month, by table and index."""
    measured: Units = json.loads(FILE.read_text())
    used: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for operation, times in done.items():
        for part, units in measured[operation].items():
            for kind, number in enumerate(units):
                used[part][kind] += number * times
    return used


def database(used: dict[str, list[float]], prices: Prices, stage: Stage) -> float:
    """The costs of all units: those of provisioned tables and indexes by the hour, all others by the request.

    Auto-scaling keeps a provisioned part at its target under an even load, or at its minimum.
    """
    dollars = 0.0
    for part in parts():
        read, write = used.get(part, (0, 0))
        if stage.capacity(part.partition("/")[0]) is None:
            dollars += (read * prices.read_units + write * prices.write_units) / MILLION
        else:
            reads, writes = (
                max(units / MONTH / (CAPACITY.target_percent / 100), CAPACITY.units) for units in (read, write)
            )
            dollars += (reads * prices.provisioned_read + writes * prices.provisioned_write) * HOURS
    return dollars


def tables_used(done: dict[str, float]) -> set[str]:
    """The tables that the operations of a month use all the time: DynamoDB asks KMS for the keys of no other."""
    measured: Units = json.loads(FILE.read_text())
    return {part.partition("/")[0] for operation, times in done.items() if times for part in measured[operation]}


def parts() -> list[str]:
    """All tables and indexes."""
    from controlplane.infrastructure.schema import table_schemas

    return [
        name for table in table_schemas() for name in (table.name, *(f"{table.name}/{i.name}" for i in table.indexes))
    ]


def alarm_count(stage: Stage) -> int:
    """The alarms of the template, and those that auto-scaling makes."""
    from controlplane.infrastructure.template import stage_template

    kinds = [resource["Type"] for resource in stage_template(stage).to_dict()["Resources"].values()]
    scaled = kinds.count("AWS::ApplicationAutoScaling::ScalingPolicy")
    return kinds.count("AWS::CloudWatch::Alarm") + scaled * SCALING_ALARMS


def bill(
    load: Load, stage: Stage, region: str, *, traced: bool = False, idle_seconds: float = IDLE_SECONDS
) -> dict[str, float]:
    """Dollars per month by service."""
    prices, memory = PRICES[region], stage.memory_mb
    done = operations(load, idle_seconds=idle_seconds)
    requests = sum(times for name, times in done.items() if name not in _SCHEDULED)
    used, sweeps, jobs = units_used(done), done["sweep"], load.jobs_a_day * DAYS
    seconds = (requests * BILLED_MS[memory] + sweeps * SWEEP_MS) / 1000
    processes = max(seconds / MONTH, 1)
    written = processes * METRIC_LINES_PER_SECOND * MONTH if load.agents else sweeps
    logged = ((requests + sweeps) * LOG_LINE + requests * ACCESS_LINE + written * METRIC_LINE) / GB
    spared = max(requests - TRACES_PER_SECOND * MONTH, 0)
    traces = (requests - spared * (1 - TRACES_SHARE)) * traced
    log_bytes = jobs * LOG_CHUNKS * CHUNK_BYTES
    # Log chunks stay in the table for two weeks. Archived logs stay in the bucket, here for a year.
    tables = (log_bytes / DAYS * 14 + jobs * RECORD_BYTES) / GB
    key_requests = len(tables_used(done)) * MONTH / KEY_KEPT_SECONDS + jobs + done["seal a minute"]
    metrics = METRICS if load.agents else IDLE_METRICS
    return {
        "API Gateway": requests * prices.api_requests / MILLION,
        "Lambda": max(seconds * memory / 1024 - FREE["gb_seconds"], 0) * prices.lambda_gb_second
        + max(requests + sweeps - FREE["invocations"], 0) * prices.lambda_requests / MILLION,
        "DynamoDB": database(used, prices, stage),
        "DynamoDB, storage and backups": max(tables - FREE["tables"], 0) * prices.table_gb + tables * prices.backup_gb,
        "CloudWatch, logs": max(logged - FREE["logs"], 0) * prices.logs_gb,
        "CloudWatch, alarms": max(alarm_count(stage) - FREE["alarms"], 0) * prices.alarm,
        "CloudWatch, metrics": max(metrics - FREE["metrics"], 0) * prices.metric,
        "X-Ray": max(traces - FREE["traces"], 0) * prices.traces / MILLION,
        "KMS": KEYS * prices.key + max(key_requests - FREE["key"], 0) * prices.key_requests / MILLION,
        # The log of a job and the index of its lines, and the copies of seals.
        "S3": (2 * jobs + done["seal a minute"]) * prices.put_requests / MILLION
        + log_bytes * 12 / GB * prices.object_gb,
        "data out": max(requests * ANSWER_BYTES / GB - FREE["out"], 0) * prices.data_out_gb,
    }


_PRODUCTION = {billing: replace(STAGES["production"], billing=billing) for billing in (ON_DEMAND, PROVISIONED)}
# The columns: heading, load, stage.
_CASES = (
    ("12 agents, staging", SMALL, STAGES["staging"]),
    ("12 agents, production, on-demand", SMALL, _PRODUCTION[ON_DEMAND]),
    ("the same, provisioned", SMALL, _PRODUCTION[PROVISIONED]),
    ("1,000 agents, production, on-demand", LARGE, _PRODUCTION[ON_DEMAND]),
    ("the same, provisioned", LARGE, _PRODUCTION[PROVISIONED]),
)
_INTERVALS = (5, 10, 15, 20)


def tables() -> Iterator[str]:
    """The lines of the tables in docs/operations.md."""
    bills = [bill(load, stage, REGION) for _, load, stage in _CASES]
    yield _row(f"$ a month, {REGION}", *(heading for heading, *_ in _CASES))
    yield _row("---", *("---:" for _ in _CASES))
    # X-Ray is off; its line is below.
    for line in [name for name in bills[0] if name != "X-Ray"]:
        yield _row(line, *(_dollars(each[line]) for each in bills))
    yield _row("**all**", *(f"**{_dollars(sum(each.values()))}**" for each in bills))
    elsewhere = [bill(load, stage, "us-east-1") for _, load, stage in _CASES]
    yield _row("all, in us-east-1", *(_dollars(sum(each.values())) for each in elsewhere))
    idle = [bill(IDLE, stage, REGION) for _, _, stage in _CASES]
    yield _row("all, without agents and jobs", *(_dollars(sum(each.values())) for each in idle))
    with_traces = [bill(load, stage, REGION, traced=True)["X-Ray"] for _, load, stage in _CASES]
    yield _row("X-Ray, if it is switched on", *map(_dollars, with_traces))
    yield ""
    yield _row("`AGENT_CHECK_SECONDS`", *(str(seconds) for seconds in _INTERVALS))
    yield _row("---", *("---:" for _ in _INTERVALS))
    for heading, load, stage in (_CASES[0], _CASES[3]):
        totals = [sum(bill(load, stage, REGION, idle_seconds=seconds).values()) for seconds in _INTERVALS]
        yield _row(heading, *map(_dollars, totals))


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
