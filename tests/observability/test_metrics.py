"""The metrics that CloudWatch reads out of the function's log."""

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


def test_requests_are_counted_by_the_class_of_their_status_and_timed_by_their_address(
    outsider: Client, written: Written
) -> None:
    outsider.get("/health")
    outsider.get("/health")
    outsider.get("/jobs")
    outsider.get("/nowhere/" + "x" * 100)
    assert written.values(names.REQUESTS, StatusClass="2xx") == [2]
    assert written.values(names.REQUESTS, StatusClass="4xx") == [2]
    assert len(written.values(names.LATENCY, Route="/health")) == 2
    assert len(written.values(names.LATENCY, Route="unmatched")) == 1


def test_calls_and_units_are_those_that_dynamodb_tells(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    with dynamodb_calls() as metering:
        agent.take()
    assert sum(written.values(names.DYNAMODB_CALLS)) == metering.calls
    assert sum(written.values(names.WRITE_UNITS)) == metering.write_units > 0
    assert sum(written.values(names.READ_UNITS)) > 0


def test_a_job_is_measured_from_its_waiting_to_its_end(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    with clock.shifted(timedelta(seconds=30)):
        assignment = agent.take()
        agent.finish(assignment, steps=STEPS)
        # The answer was lost, and the agent tells it again: nothing has happened twice.
        agent.finish(assignment, steps=STEPS)
    assert written.values("JobsCompleted") == [1]
    assert written.values(names.JOB_WAIT) == [pytest.approx(30, abs=5)]
    assert written.values(names.JOB_RUN) == [42]


def test_jobs_are_counted_by_how_they_ended(
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


def test_a_job_that_waits_again_has_waited_since_it_was_taken_back(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    agent.take()
    with clock.shifted(timedelta(minutes=2)):
        call_command("sweep")
        assert written.values(names.QUEUE_DEPTH) == [1]
    with clock.shifted(timedelta(minutes=3)):
        agent.heartbeat(running=[])
    assert written.values(names.JOB_WAIT)[-1] == pytest.approx(60, abs=5)


def test_each_minute_tells_of_queue_and_fleet(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    agent.heartbeat()
    make_job()
    make_job(labels=["gpu"], priority=90)
    with clock.shifted(timedelta(minutes=20)):
        call_command("sweep")
    assert written.values(names.QUEUE_DEPTH) == [2]
    assert written.values(names.OLDEST_WAIT) == [pytest.approx(1200, abs=5)]
    assert written.values(names.AGENTS_DEAD) == [1]
    assert written.values("AgentsHealthy") == [0]


def test_an_empty_control_plane_tells_zeros(tables: None, written: Written) -> None:
    call_command("sweep")
    assert written.values(names.QUEUE_DEPTH) == written.values(names.OLDEST_WAIT) == [0]
    assert written.values(names.AGENTS_DEAD) == [0]


def test_nothing_is_printed_unless_asked(
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


def test_the_start_on_lambda_counts_as_no_request(tables: None, written: Written) -> None:
    from controlplane import lambda_handler

    lambda_handler._start()
    assert written.series == {}
    assert written.requests == []


def test_a_busy_process_writes_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = Metrics(lines.append)
    for second in range(25):
        now = 1000.0 + second
        kept.add({(names.ROUTE, "/jobs"): [(names.LATENCY, second)]})
        kept.write()
    assert [len(metrics_read(json.loads(line)).popitem()[1]) for line in lines] == [11, 10]
    # Who comes after a pause is told of at once.
    now += 60
    kept.write()
    assert len(lines) == 3


def test_no_line_has_more_values_than_cloudwatch_takes() -> None:
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


def test_alarms_and_dashboard_look_at_metrics_that_are_told(
    agent: AgentClient, operator: Client, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    agent.finish(agent.take(), steps=STEPS)
    call_command("sweep")
    told = {name for name, _ in written.series} | set(names.JOBS_ENDED.values())
    for stage in STAGES.values():
        template = json.dumps(stage_template(stage).to_dict())
        own = set(re.findall(rf'\\"{names.NAMESPACE}\\",\\"(\w+)\\"', template))
        for resource in stage_template(stage).to_dict()["Resources"].values():
            if resource["Properties"].get("Namespace") == names.NAMESPACE:
                own.add(resource["Properties"]["MetricName"])
        assert own - told == set()
        assert {names.AGENTS_DEAD, names.OLDEST_WAIT, names.QUEUE_DEPTH} <= own


def test_the_number_of_metrics_is_bounded_by_the_addresses_that_there_are() -> None:
    addresses = {path for path in routes() if not path.startswith("/admin/")}
    # At $0.30 a month each, were all of them asked for in every hour of it.
    assert len(addresses) < 75
    fixed = [name for name, value in vars(metric_names).items() if name.isupper() and isinstance(value, str)]
    assert len(fixed) + len(names.JOBS_ENDED) + len(names.AGENTS) < 30


def test_the_metrics_of_a_request_that_fails_are_told(server: str, written: Written) -> None:
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        Client(server).get("/plain-bug")
    assert written.values(names.REQUESTS, StatusClass="5xx") == [1]
