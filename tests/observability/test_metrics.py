"""The metrics that CloudWatch reads from the function's log."""

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from controlplane.lib import clock, metric_names
from controlplane.lib import metric_names as names
from controlplane.observability import metrics as metrics_module
from controlplane.observability.metrics import MOST_VALUES, Metrics
from tests.clients import Client
from tests.contract.test_openapi import routes
from tests.metering import dynamodb_calls
from tests.observability.conftest import Written
from tests.observability.emf import metrics_read
from tests.polling import polled
from tests.signing import AgentClient

STEPS = [
    {"name": "lint", "state": "completed", "exit_code": 0, "started_at": "2026-11-21T09:00:00Z", "completed_at": None},
    {
        "name": "test",
        "state": "completed",
        "exit_code": 0,
        "started_at": "2026-11-21T09:00:05Z",
        "completed_at": "2026-11-21T09:00:42Z",
    },
]


def test_requests_are_counted_by_status_class_and_timed_by_route(outsider: Client, written: Written) -> None:
    outsider.get("/health")
    outsider.get("/health")
    outsider.get("/jobs")
    outsider.get("/nowhere/" + "x" * 100)
    assert written.values(names.REQUESTS, StatusClass="2xx") == [2]
    assert written.values(names.REQUESTS, StatusClass="4xx") == [2]
    assert len(written.values(names.LATENCY, Route="/health")) == 2
    assert len(written.values(names.LATENCY, Route="unmatched")) == 1


def test_calls_and_units_are_those_that_dynamodb_reports(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    with dynamodb_calls() as metering:
        agent.take()
    assert sum(written.values(names.DYNAMODB_CALLS)) == metering.calls
    assert sum(written.values(names.WRITE_UNITS)) == metering.write_units > 0
    assert sum(written.values(names.READ_UNITS)) > 0


def test_a_job_has_metrics_of_its_wait_its_run_and_its_end(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    with clock.shifted(timedelta(seconds=30)):
        assignment = agent.take()
        agent.finish(assignment, steps=STEPS)
        # The response was lost, and the agent reports again: each event counts only once.
        agent.finish(assignment, steps=STEPS)
    assert written.values("JobsCompleted") == [1]
    assert written.values(names.JOB_WAIT) == [pytest.approx(30, abs=5)]
    assert written.values(names.JOB_RUN) == [42]


def test_jobs_are_counted_by_outcome(
    agent: AgentClient, operator: Client, make_job: Callable[..., str], written: Written
) -> None:
    waiting = make_job()
    operator.post(f"/jobs/{waiting}/cancel")
    make_job()
    agent.finish(agent.take(), exit_code=1)
    make_job()
    agent.finish(agent.take(), exit_code=None, error_message="slow", steps=[{"name": "test", "state": "timed_out"}])
    assert written.values("JobsCancelled") == [1]
    assert written.values("JobsFailed") == [1]
    assert written.values("JobsTimedOut") == [1]


def test_the_wait_of_a_requeued_job_starts_when_it_is_requeued(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    agent.take()
    with polled(50):
        call_command("sweep")
        assert written.values(names.QUEUE_DEPTH) == [1]
        with clock.shifted(timedelta(minutes=1)):
            agent.heartbeat(running=[])
    assert written.values(names.JOB_WAIT)[-1] == pytest.approx(60, abs=5)


def test_each_minute_has_metrics_of_queue_and_fleet(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    agent.heartbeat()
    make_job()
    make_job(labels=["gpu"], priority=90)
    with polled(310):
        call_command("sweep")
    assert written.values(names.QUEUE_DEPTH) == [2]
    assert written.values(names.OLDEST_WAIT) == [pytest.approx(310, abs=5)]
    assert written.values(names.AGENTS_DEAD) == [1]
    assert written.values("AgentsHealthy") == [0]


def test_an_empty_control_plane_reports_zeros(tables: None, written: Written) -> None:
    call_command("sweep")
    assert written.values(names.QUEUE_DEPTH) == written.values(names.OLDEST_WAIT) == [0]
    assert written.values(names.AGENTS_DEAD) == [0]


def test_no_metrics_are_printed_unless_enabled(
    outsider: Client, settings: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "KEPT_SECONDS", 0)
    outsider.get("/health")
    call_command("sweep")
    assert "_aws" not in capsys.readouterr().out
    settings.METRICS_EMF = True
    outsider.get("/health")
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {name for line in printed for name, _ in metrics_read(line)} >= {"Requests", "Latency", "DynamoDBCalls"}


def test_the_start_on_lambda_does_not_count_as_a_request(tables: None, written: Written) -> None:
    from controlplane import lambda_handler

    lambda_handler._start()
    assert written.series == {}
    assert written.requests == []


def test_a_busy_process_writes_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = Metrics(lines.append)
    for second in range(25):
        now = 1000.0 + second
        kept.add({(names.ROUTE, "/jobs"): [(names.LATENCY, second)]})
        kept.write()
    assert [len(metrics_read(json.loads(line)).popitem()[1]) for line in lines] == [11, 10]
    # The first figures after a pause are written at once.
    now += 60
    kept.write()
    assert len(lines) == 3


def test_no_line_has_more_values_than_cloudwatchs_limit() -> None:
    lines: list[str] = []
    kept = Metrics(lines.append)
    for _ in range(250):
        kept.add({None: [(names.DYNAMODB_CALLS, 2)], (names.STATUS_CLASS, "2xx"): [(names.REQUESTS, 1)]})
        kept.write()
    kept.write(at_once=True)
    assert all(len(values) <= MOST_VALUES for line in lines for values in metrics_read(json.loads(line)).values())
    found = [(name, sum(values)) for line in lines for (name, _), values in metrics_read(json.loads(line)).items()]
    assert sum(value for name, value in found if name == names.REQUESTS) == 250
    assert sum(value for name, value in found if name == names.DYNAMODB_CALLS) == 500


def test_the_time_of_a_line_is_that_of_its_first_figure() -> None:
    lines: list[str] = []
    kept = Metrics(lines.append)
    before = int(clock.now().timestamp() * 1000)
    kept.add({None: [(names.DYNAMODB_CALLS, 2)]})
    with clock.shifted(timedelta(hours=1)):
        kept.add({None: [(names.DYNAMODB_CALLS, 2)]})
        kept.write(at_once=True)
    assert json.loads(lines[0])["_aws"]["Timestamp"] - before < 1000


def test_alarms_and_dashboard_use_only_metrics_that_exist(
    agent: AgentClient, operator: Client, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    agent.finish(agent.take(), steps=STEPS)
    call_command("sweep")
    reported = {name for name, _ in written.series} | set(names.JOBS_ENDED.values())
    for stage in STAGES.values():
        template = json.dumps(stage_template(stage).to_dict())
        own = set(re.findall(rf'\\"{names.NAMESPACE}\\",\\"(\w+)\\"', template))
        for resource in stage_template(stage).to_dict()["Resources"].values():
            if resource["Properties"].get("Namespace") == names.NAMESPACE:
                own.add(resource["Properties"]["MetricName"])
        assert own - reported == set()
        assert {names.AGENTS_DEAD, names.OLDEST_WAIT, names.QUEUE_DEPTH} <= own


def test_the_number_of_metrics_is_bounded_by_the_number_of_routes() -> None:
    addresses = {path for path in routes() if not path.startswith("/admin/")}
    # $0.30 a month each, if all of them were used in every hour of it.
    assert len(addresses) < 75
    fixed = [name for name, value in vars(metric_names).items() if name.isupper() and isinstance(value, str)]
    assert len(fixed) + len(names.JOBS_ENDED) + len(names.AGENTS) < 30


def test_a_failed_request_has_metrics(server: str, written: Written) -> None:
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        Client(server).get("/plain-bug")
    assert written.values(names.REQUESTS, StatusClass="5xx") == [1]
