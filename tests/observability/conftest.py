"""Captures the output of the control plane: its log lines as on Lambda, and its metrics."""

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.observability import middleware, works
from controlplane.observability.logs import JsonFormatter
from controlplane.observability.metrics import Metrics
from tests.jobs.conftest import agent, make_job, operator_actor, pipeline  # noqa: F401 — fixtures
from tests.observability.emf import Series, metrics_read


class Written:
    """The output since the start of the test."""

    def __init__(self) -> None:
        self._logs = io.StringIO()
        self._metric_lines: list[str] = []
        self._figure_lines: list[str] = []
        self.metrics = Metrics(lambda line: (self._metric_lines if "_aws" in line else self._figure_lines).append(line))
        self.handler = logging.StreamHandler(self._logs)
        self.handler.setFormatter(JsonFormatter())

    @property
    def text(self) -> str:
        return self._logs.getvalue() + "\n".join([*self._metric_lines, *self._figure_lines])

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._logs.getvalue().split("\n") if line]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The lines that describe requests."""
        return [line for line in self.lines if "status" in line]

    @property
    def series(self) -> Series:
        """The metrics' values by name and dimensions, also those that are not written yet."""
        self.metrics.write(at_once=True)
        found: Series = {}
        for line in self._metric_lines:
            for key, values in metrics_read(json.loads(line)).items():
                found.setdefault(key, []).extend(values)
        return found

    @property
    def routes(self) -> dict[str, dict[str, Any]]:
        """The sums of the requests to each address, also those that are not written yet."""
        self.metrics.write(at_once=True)
        found: dict[str, Counter[str]] = {}
        for line in map(json.loads, self._figure_lines):
            route, stage = line.pop("route"), line.pop("stage")
            assert stage == "test"
            found.setdefault(route, Counter()).update(line)
        return {route: dict(figures) for route, figures in found.items()}

    def values(self, name: str) -> list[float]:
        """The values of a metric of this stage."""
        return self.series.get((name, (("Namespace", "HybridCICD"), ("Stage", "test"))), [])


@pytest.fixture
def written(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Captures the output with the most verbose settings."""
    found = Written()
    settings.METRICS_EMF = True
    monkeypatch.setattr(middleware, "process_metrics", found.metrics)
    monkeypatch.setattr(works, "process_metrics", found.metrics)
    loggers = {"": logging.INFO, "apps": logging.DEBUG, "controlplane": logging.DEBUG}
    before = {name: logging.getLogger(name).level for name in loggers}
    for name, level in loggers.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(found.handler)
    yield found
    logging.getLogger().removeHandler(found.handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
