"""``make cost``: the design's goals for a month, and what makes the difference to the costs that `cost` computes.

A stage is billed by service. Here its bill is divided by cause: which requests, rows and keys it is for.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.cost import (
    BILLED_MS,
    IDLE,
    KEYS,
    LARGE,
    MILLION,
    PRICES,
    REGION,
    SMALL,
    SWEEP_MS,
    Load,
    bill,
    operations,
)
from benchmarks.units import FILE, Units
from controlplane.infrastructure.stages import ON_DEMAND, PROVISIONED, STAGES, Stage

# The operations that no request performs.
_SCHEDULED = ("store a log", "sweep", "seal a minute")
# Billed for each request, whatever it asks for.
_EVEN = ("API Gateway", "CloudWatch, logs", "data out")
_SWEEP = "the sweep of each minute"
_SEALS = "seals of the audit trail"
_LOGS = "logs and records that are kept"
# The causes that operations are, each with its operations. What they write to the audit trail is a cause of its own.
_OPERATIONS = {
    "polls of agents without a job": ("idle heartbeat",),
    "heartbeats of agents with a job": ("busy heartbeat",),
    "output of jobs while they run": ("log chunk",),
    "jobs are queued, claimed, started and ended": ("enqueue", "claiming heartbeat", "start", "finish"),
    "programs that wait for their jobs": ("look at a job",),
    "open dashboards": ("overview", "recent runs", "latest acts"),
    _LOGS: ("store a log",),
    _SWEEP: ("sweep",),
    _SEALS: ("seal a minute",),
}
_AUDIT, _AUDIT_INDEXES = "audit events", "indexes of the audit trail"


def on_demand(name: str) -> Stage:
    """The stage with tables that are billed by the request."""
    return replace(STAGES[name], billing=ON_DEMAND)


# The columns: heading, load, stage, and the goal in dollars.
CASES = (
    ("12 agents, 1,000 jobs a day", SMALL, on_demand("staging"), 5.0),
    ("unused", IDLE, on_demand("staging"), 1.5),
    ("1,000 agents, 100,000 jobs a day", LARGE, on_demand("production"), 400.0),
)


def causes(load: Load, stage: Stage, region: str) -> dict[str, float]:
    """Dollars a month by cause, together the bill of a stage on demand.

    What all requests together are billed is divided by their number, and what Lambda is billed by its time.
    """
    prices, billed, done = PRICES[region], bill(load, stage, region), operations(load)
    measured: Units = json.loads(FILE.read_text())
    requests = sum(times for name, times in done.items() if name not in _SCHEDULED)
    each = sum(billed[service] for service in _EVEN) / requests if requests else 0.0
    milliseconds = requests * BILLED_MS[stage.memory_mb] + done["sweep"] * SWEEP_MS
    found: dict[str, float] = defaultdict(float)
    for cause, names in _OPERATIONS.items():
        for name in names:
            if name not in _SCHEDULED:
                found[cause] += done[name] * (each + billed["Lambda"] * BILLED_MS[stage.memory_mb] / milliseconds)
            for part, (read, write) in measured[name].items():
                dollars = done[name] * (read * prices.read_units + write * prices.write_units) / MILLION
                found[_part_cause(part, cause)] += dollars
    copies = done["seal a minute"] * prices.put_requests / MILLION
    found[_SWEEP] += billed["Lambda"] * done["sweep"] * SWEEP_MS / milliseconds
    found[_SEALS] += copies
    found[_LOGS] += billed["S3"] - copies + billed["DynamoDB, storage and backups"]
    found["two KMS keys"] = KEYS * prices.key
    found["requests to KMS"] = billed["KMS"] - KEYS * prices.key
    found["alarms and metrics"] = billed["CloudWatch, alarms"] + billed["CloudWatch, metrics"]
    return found


def _part_cause(part: str, cause: str) -> str:
    """The cause of units that an operation of `cause` uses of this table or index."""
    if cause == _SEALS or part.partition("/")[0] != "audit":
        return cause
    return _AUDIT_INDEXES if "/" in part else _AUDIT


def goals() -> Iterator[str]:
    """The lines of the table in docs/promises.md."""
    found = [causes(load, stage, REGION) for _, load, stage, _ in CASES]
    yield _row(f"$ a month, {REGION}, on demand", *(heading for heading, *_ in CASES))
    yield _row("---", *("---:" for _ in CASES))
    yield _row("**goal**", *(f"**< {goal:.2f}**" for *_, goal in CASES))
    yield _row("**computed**", *(f"**{sum(each.values()):,.2f}**" for each in found))
    yield _row("computed, in us-east-1", *(f"{_total(load, stage):,.2f}" for _, load, stage, _ in CASES))
    for cause in sorted(found[0], key=lambda cause: -found[0][cause]):
        yield _row(cause, *(f"{each[cause]:,.2f}" for each in found))
    traced = [bill(load, stage, REGION, traced=True)["X-Ray"] for _, load, stage, _ in CASES]
    yield _row("X-Ray, if it is switched on", *(f"{dollars:,.2f}" for dollars in traced))
    more = [
        sum(bill(load, replace(STAGES["production"], billing=PROVISIONED), REGION).values())
        - sum(bill(load, on_demand("production"), REGION).values())
        for _, load, _, _ in CASES
    ]
    yield _row("production, provisioned: minimum capacity and its alarms", *(f"{dollars:,.2f}" for dollars in more))


def _total(load: Load, stage: Stage) -> float:
    return sum(bill(load, stage, "us-east-1").values())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    import django

    django.setup()
    print("\n" + "\n".join(goals()))


if __name__ == "__main__":
    main()
