"""The metrics of this process, written for CloudWatch as log lines in embedded metric format (EMF).

A line for each request would cost more than the requests' own logs. So figures are kept for some seconds while a
process is busy, and written together; in a process with little to do, each request's are written at once. What a busy
process has not written when it ends, at most those seconds, is lost. See docs/decisions/0015.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping

from django.conf import settings

from controlplane.lib import clock
from controlplane.lib import metric_names as names

# How long a busy process keeps what it has not written.
KEPT_SECONDS = 10
# CloudWatch takes no more values of a metric in a line.
MOST_VALUES = 100

# These are added up; of the others each value counts, for percentiles.
_COUNTS = frozenset({names.REQUESTS, *names.JOBS_ENDED.values()})
_UNITS = {
    names.LATENCY: "Milliseconds",
    names.JOB_WAIT: "Seconds",
    names.JOB_RUN: "Seconds",
    names.OLDEST_WAIT: "Seconds",
}

Dimension = tuple[str, str] | None


class Metrics:
    """Figures that wait to be written by `write`, which gets a line at a time. For any number of threads."""

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
        """Names and values by the dimension (name and value) that they have beside the stage, or None."""
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
        """Write what there is if it is time: nothing was written for some seconds, a line is full, or `at_once`."""
        with self._lock:
            if not (at_once or self._is_full or time.monotonic() - self._written_at >= KEPT_SECONDS):
                return
            pending, since = self._pending, self._since
            self._written_at = time.monotonic()
            self._clear()
        for dimension, values in pending.items():
            self._write(_line(dimension, values, since))


def _line(dimension: Dimension, values: Mapping[str, list[float]], since: int | None) -> str:
    # Some milliseconds, which no start of a process has to wait for.
    from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

    emf = AmazonCloudWatchEMFProvider(namespace=names.NAMESPACE)
    emf.add_dimension(names.STAGE, settings.STAGE)
    if dimension:
        emf.add_dimension(*dimension)
    if since:
        emf.set_timestamp(since)
    # At once: to add a value, Powertools writes all those before it into a line for debugging that nobody sees.
    metrics = {name: {"Unit": _UNITS.get(name, "Count"), "Value": kept} for name, kept in values.items()}
    return json.dumps(emf.serialize_metric_set(metrics), separators=(",", ":"))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


process_metrics = Metrics(_print)
