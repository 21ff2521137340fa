"""The metrics that CloudWatch reads from the function's log."""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.test import override_settings

from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from controlplane.lib import clock, metric_names
from controlplane.lib import metric_names as names
from controlplane.nosql.connection import shared_connection, throttled_parts
from controlplane.observability import metrics as metrics_module
from controlplane.observability.metrics import MOST_VALUES, Metrics, RouteFigures
from tests.clients import Client
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


@pytest.fixture
def warnings_only(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """The default level, at which only requests that fail have a line of their own."""
    caplog.set_level(logging.WARNING, "controlplane")


@pytest.mark.usefixtures("warnings_only")
def test_requests_are_counted_and_timed_by_route_in_the_log(outsider: Client, written: Written) -> None:
    outsider.get("/health")
    outsider.get("/health")
    outsider.get("/jobs")
    outsider.get("/nowhere/" + "x" * 100)
    found = {route: (figures["requests"], figures["refused"]) for route, figures in written.routes.items()}
    assert found == {"/health": (2, 0), "/jobs": (1, 1), "unmatched": (1, 1)}
    health = written.routes["/health"]
    assert health["milliseconds"] >= health["slowest"] > 0
    # No client can make metrics, which cost money.
    assert written.series == {}


def test_at_level_info_a_request_has_one_line_which_also_has_its_figures(operator: Client, written: Written) -> None:
    operator.get("/jobs")
    operator.get("/jobs/none")
    assert written.routes == {}
    assert written.series == {}
    first, second = written.lines
    assert (first["requests"], first["refused"], first["failed"]) == (1, 0, 0)
    assert (second["requests"], second["refused"], second["failed"]) == (1, 1, 0)
    # The same names as in the lines of sums, so that the same queries add them up.
    assert {field.name for field in fields(RouteFigures)} <= first.keys()
    assert first["slowest"] == first["milliseconds"]


@pytest.mark.usefixtures("warnings_only")
def test_calls_and_units_are_those_that_dynamodb_reports(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    with dynamodb_calls() as metering:
        agent.take()
    figures = list(written.routes.values())
    assert sum(part["dynamodb_calls"] for part in figures) == metering.calls
    assert sum(part["write_units"] for part in figures) == metering.write_units > 0
    assert sum(part["read_units"] for part in figures) > 0


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
    # One failed, one timed out, and the cancelled one counts as neither.
    assert written.values(names.JOBS_FAILED) == [1, 1]
    assert written.values(names.JOBS_COMPLETED) == []


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
    outsider: Client,
    settings: Any,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING, "controlplane")
    monkeypatch.setattr(metrics_module, "KEPT_SECONDS", 0)
    outsider.get("/health")
    call_command("sweep")
    assert "_aws" not in capsys.readouterr().out
    settings.METRICS_EMF = True
    outsider.get("/health")
    call_command("sweep")
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert any(line.get("requests") == 1 for line in printed)
    assert {name for line in printed if "_aws" in line for name, _ in metrics_read(line)} >= {names.QUEUE_DEPTH}


def test_the_start_on_lambda_does_not_count_as_a_request(tables: None, written: Written) -> None:
    from controlplane import lambda_handler

    lambda_handler._start()
    assert written.series == {}
    assert written.routes == {}
    assert written.requests == []


def test_a_busy_process_writes_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = Metrics(lines.append)
    for second in range(25):
        now = 1000.0 + second
        kept.add([(names.JOB_WAIT, second)])
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
        kept.add([(names.JOB_RUN, 2), (names.JOBS_COMPLETED, 1)])
        kept.write()
    kept.write(at_once=True)
    assert all(len(values) <= MOST_VALUES for line in lines for values in metrics_read(json.loads(line)).values())
    found = [(name, sum(values)) for line in lines for (name, _), values in metrics_read(json.loads(line)).items()]
    assert sum(value for name, value in found if name == names.JOBS_COMPLETED) == 250
    assert sum(value for name, value in found if name == names.JOB_RUN) == 500


def test_the_time_of_a_line_is_that_of_its_first_figure() -> None:
    lines: list[str] = []
    kept = Metrics(lines.append)
    before = int(clock.now().timestamp() * 1000)
    kept.add([(names.JOB_RUN, 2)])
    with clock.shifted(timedelta(hours=1)):
        kept.add([(names.JOB_RUN, 2)])
        kept.write(at_once=True)
    assert json.loads(lines[0])["_aws"]["Timestamp"] - before < 1000


def test_alarms_and_dashboard_use_only_metrics_that_exist(
    agent: AgentClient, operator: Client, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    agent.finish(agent.take(), steps=STEPS)
    call_command("sweep")
    rare = {names.JOBS_FAILED, names.LOG_ARCHIVE_FAILURES, names.DYNAMODB_THROTTLES, names.ROTATIONS_ALARMING}
    reported = {name for name, _ in written.series} | rare
    for stage in STAGES.values():
        template = json.dumps(stage_template(stage).to_dict())
        own = set(re.findall(rf'\\"{names.NAMESPACE}\\",\\"(\w+)\\"', template))
        for resource in stage_template(stage).to_dict()["Resources"].values():
            if resource["Properties"].get("Namespace") == names.NAMESPACE:
                own.add(resource["Properties"]["MetricName"])
        assert own - reported == set()
        assert {names.AGENTS_DEAD, names.OLDEST_WAIT, names.QUEUE_DEPTH} <= own


def test_there_are_ten_metrics_which_are_free_and_one_while_a_rotation_needs_a_user() -> None:
    fixed = {name: value for name, value in vars(metric_names).items() if name.isupper() and isinstance(value, str)}
    own = {value for name, value in fixed.items() if name not in ("NAMESPACE", "STAGE")}
    assert len(own - {names.ROTATIONS_ALARMING}) == 10
    assert {*names.JOBS_ENDED.values(), *names.AGENTS.values()} < own


def test_what_dynamodb_throttles_is_measured_and_its_log_line_names_table_and_index(
    operator: Client, make_job: Callable[..., str], written: Written
) -> None:
    make_job()
    events = shared_connection().client.meta.events
    refused: list[bytes] = []

    class Throttled:
        """DynamoDB's answer to a throttled query, before botocore repeats it."""

        status_code = 400
        headers: ClassVar[dict[str, str]] = {}
        content = b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"-"}'
        text = content.decode()

    def refuse_once(request: Any, **_: Any) -> Any:
        if b"by_day" not in request.body or refused:
            return None
        refused.append(request.body)
        return Throttled()

    events.register("before-send.dynamodb.Query", refuse_once, unique_id="throttled")
    try:
        assert operator.get("/jobs").status_code == 200
    finally:
        events.unregister("before-send.dynamodb.Query", unique_id="throttled")
    # botocore got it done with its second attempt, and the figure is there all the same.
    assert written.values(names.DYNAMODB_THROTTLES) == [1]
    (line,) = [line for line in written.lines if line["level"] == "WARNING"]
    assert "hybrid-ci-cd-jobs-test/by_day" in line["message"]
    assert line["route"] == "/jobs"


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ({"Error": {"Code": "ThrottlingException"}}, 1),
        (
            {
                "Error": {"Code": "TransactionCanceledException"},
                "CancellationReasons": [
                    {"Code": "None"},
                    {"Code": "ThrottlingError"},
                    {"Code": "ConditionalCheckFailed"},
                ],
            },
            1,
        ),
        ({"UnprocessedKeys": {"jobs": {"Keys": [{}, {}]}, "agents": {"Keys": [{}]}}}, 3),
        ({"Error": {"Code": "ConditionalCheckFailedException"}}, 0),
        ({"Items": [], "UnprocessedKeys": {}}, 0),
    ],
)
def test_every_form_in_which_dynamodb_reports_a_throttled_part_counts(answer: dict[str, Any], parts: int) -> None:
    assert throttled_parts(answer) == parts


@pytest.mark.usefixtures("warnings_only")
def test_a_failed_request_is_counted(server: str, written: Written) -> None:
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        Client(server).get("/plain-bug")
    assert written.routes["/plain-bug"]["failed"] == 1
