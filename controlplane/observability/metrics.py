"""The metrics of this process, written for CloudWatch as log lines in embedded metric format (EMF).

A line per request would cost more than the requests' own logs. So a busy process collects figures for some seconds and
writes them together, while an idle process writes each request's figures at once. A busy process that ends loses at
most the figures of those seconds. See docs/decisions/0015.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping

from django.conf import settings

from controlplane.lib import clock
from controlplane.lib import metric_names as names

# So many seconds a busy process collects figures before it writes them.
KEPT_SECONDS = 10
# CloudWatch's limit for the values of a metric in one line.
MOST_VALUES = 100

# The values of these are added up. Of the others each value is written, for percentiles.
_COUNTS = frozenset({names.REQUESTS, names.LOG_ARCHIVE_FAILURES, *names.JOBS_ENDED.values()})
_UNITS = {
    names.LATENCY: "Milliseconds",
    names.JOB_WAIT: "Seconds",
    names.JOB_RUN: "Seconds",
    names.OLDEST_WAIT: "Seconds",
}

Dimension = tuple[str, str] | None


class Metrics:
    """Collects figures until `write` writes them. Safe for any number of threads."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._written_at = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self._pending: dict[Dimension, dict[str, list[float]]] = {}
        self._since: int | None = None
        self._is_full = False

    def add(self, figures: Mapping[Dimension, list[tuple[str, float]]]) -> None:
        """Add names and values by the dimension (name and value) that they have besides the stage, or None."""
        with self._lock:
            self._since = self._since or int(clock.now().timestamp() * 1000)
            for dimension, values in figures.items():
                for name, value in values:
                    self._add(self._pending.setdefault(dimension, {}).setdefault(name, []), name, value)

    def _add(self, kept: list[float], name: str, value: float) -> None:
        if kept and name in _COUNTS:
            kept[0] += value
        else:
            kept.append(value)
            self._is_full = self._is_full or len(kept) >= MOST_VALUES

    def write(self, *, at_once: bool = False) -> None:
        """Write the figures if it is time: the last write was some seconds ago, a line is full, or `at_once`."""
        with self._lock:
            if not (at_once or self._is_full or time.monotonic() - self._written_at >= KEPT_SECONDS):
                return
            pending, since = self._pending, self._since
            self._written_at = time.monotonic()
            self._clear()
        for dimension, values in pending.items():
            self._write(_line(dimension, values, since))


def _line(dimension: Dimension, values: Mapping[str, list[float]], since: int | None) -> str:
    # The import takes some milliseconds, which must not delay the start of a process.
    from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

    emf = AmazonCloudWatchEMFProvider(namespace=names.NAMESPACE)
    emf.add_dimension(names.STAGE, settings.STAGE)
    if dimension:
        emf.add_dimension(*dimension)
    if since:
        emf.set_timestamp(since)
    # All values at once: with each added value, Powertools formats all earlier ones for a debug line that is not shown.
    metrics = {name: {"Unit": _UNITS.get(name, "Count"), "Value": kept} for name, kept in values.items()}
    return json.dumps(emf.serialize_metric_set(metrics), separators=(",", ":"))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


process_metrics = Metrics(_print)
