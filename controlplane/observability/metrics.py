"""The figures of this process, written as lines of the function's log.

CloudWatch makes metrics of the few that are in embedded metric format (EMF); each would cost $0.30 a month beyond the
first ten. The figures of requests are one plain JSON line for each address, which Logs Insights adds up.

A line per request would cost more than the requests' own logs. So a busy process collects figures for some seconds and
writes them together, while an idle process writes each request's figures at once. A busy process that ends loses at
most the figures of those seconds. See docs/decisions/0015.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from django.conf import settings

from controlplane.lib import clock
from controlplane.lib import metric_names as names
from controlplane.lib.work import Work

# So many seconds a busy process collects figures before it writes them.
KEPT_SECONDS = 10
# CloudWatch's limit for the values of a metric in one line.
MOST_VALUES = 100

# The values of these are added up. Of the others each value is written, for percentiles.
_COUNTS = frozenset({names.LOG_ARCHIVE_FAILURES, names.DYNAMODB_THROTTLES, *names.JOBS_ENDED.values()})
_UNITS = {names.JOB_WAIT: "Seconds", names.JOB_RUN: "Seconds", names.OLDEST_WAIT: "Seconds"}


@dataclass(slots=True)
class RouteFigures:
    """The sums of the requests to one address: how many, how many of them got 4xx and 5xx, their time and their cost.

    `slowest` is the longest time, in milliseconds.
    """

    requests: int = 0
    refused: int = 0
    failed: int = 0
    milliseconds: float = 0.0
    slowest: float = 0.0
    dynamodb_calls: int = 0
    read_units: float = 0.0
    write_units: float = 0.0

    def add(self, work: Work, status: int, milliseconds: float) -> None:
        """Add a request that was answered with `status` after so many milliseconds."""
        self.requests += 1
        self.refused += 400 <= status < 500
        self.failed += status >= 500
        self.milliseconds = round(self.milliseconds + milliseconds, 2)
        self.slowest = max(self.slowest, milliseconds)
        self.dynamodb_calls += work.dynamodb_calls
        self.read_units += work.read_units
        self.write_units += work.write_units

    @classmethod
    def of(cls, work: Work, status: int, milliseconds: float) -> Self:
        """The figures of a single request."""
        figures = cls()
        figures.add(work, status, milliseconds)
        return figures


class Metrics:
    """Collects figures until `write` writes them. Safe for any number of threads."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._written_at = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self._pending: dict[str, list[float]] = {}
        self._routes: dict[str, RouteFigures] = {}
        self._since: int | None = None
        self._is_full = False

    def add(self, measures: Sequence[tuple[str, float]]) -> None:
        """Add values of metrics, by their names."""
        with self._lock:
            self._since = self._since or int(clock.now().timestamp() * 1000)
            for name, value in measures:
                self._add(self._pending.setdefault(name, []), name, value)

    def _add(self, kept: list[float], name: str, value: float) -> None:
        if kept and name in _COUNTS:
            kept[0] += value
        else:
            kept.append(value)
            self._is_full = self._is_full or len(kept) >= MOST_VALUES

    def request_add(self, work: Work, status: int, milliseconds: float) -> None:
        """Add a request to the figures of its address."""
        with self._lock:
            self._routes.setdefault(work.route, RouteFigures()).add(work, status, milliseconds)

    def write(self, *, at_once: bool = False) -> None:
        """Write the figures if it is time: the last write was some seconds ago, a line is full, or `at_once`."""
        with self._lock:
            if not (at_once or self._is_full or time.monotonic() - self._written_at >= KEPT_SECONDS):
                return
            pending, routes, since = self._pending, self._routes, self._since
            self._written_at = time.monotonic()
            self._clear()
        if pending:
            self._write(_metrics_line(pending, since))
        for route, figures in routes.items():
            self._write(_json({"stage": settings.STAGE, "route": route, **asdict(figures)}))


def _metrics_line(values: Mapping[str, list[float]], since: int | None) -> str:
    # The import takes some milliseconds, which must not delay the start of a process.
    from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

    emf = AmazonCloudWatchEMFProvider(namespace=names.NAMESPACE)
    emf.add_dimension(names.STAGE, settings.STAGE)
    if since:
        emf.set_timestamp(since)
    # All values at once: with each added value, Powertools formats all earlier ones for a debug line that is not shown.
    metrics = {name: {"Unit": _UNITS.get(name, "Count"), "Value": kept} for name, kept in values.items()}
    return _json(emf.serialize_metric_set(metrics))


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


process_metrics = Metrics(_print)
