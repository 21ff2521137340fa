"""The checks of runs at their commits: whatever happens between an act and its delivery, they end as the run does."""

from datetime import timedelta
from typing import Any

import pytest

from apps.jobs.models import RUN, Job, Run
from apps.jobs.reports.results import ReportKind
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import checks, job_cancel, job_retry, report_add, run_retry
from apps.jobs.services.approvals import deployment_approve
from apps.jobs.services.checks import checks_send
from apps.notifications.selectors.outbox import OutboxItem
from apps.sources.models import Connection
from controlplane.lib import clock
from controlplane.lib.errors import RetryLater
from tests.conftest import OPERATOR
from tests.interleaving import before_call
from tests.jobs.checked import HEAD, SHOP, begun, checked_job, graph_run, shown, work
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of, environment, user
from tests.jobs.runs import DIAMOND, STEPS, Worker
from tests.properties.consistency import Everything, Items
from tests.sources.conftest import app_connection, connection_of
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import Answer, FakeProvider


@pytest.fixture
def github(worker: Worker, provider: FakeProvider) -> Connection:
    """The connection of an app that is installed for the repository."""
    provider.repository_add(SHOP)
    connection = app_connection(provider)
    connection.save()
    return connection


def waiting() -> int:
    """How many items the outbox has."""
    return sum(item["entry"]["S"].startswith(("new#", "20")) for item in Items().of(OutboxItem))


def name(run_id: str, job: str) -> str:
    return str(run_view(run_id).nodes[job].job_id)


def test_each_job_has_a_check_and_the_run_has_one(worker: Worker, github: Connection, provider: FakeProvider) -> None:
    job = checked_job()
    work()
    assert shown(provider) == {"graph": "queued"}
    begun(worker, job)
    work()
    assert shown(provider) == {"graph": "in_progress"}
    worker.report(Job.get(job.job_id), DIAMOND)
    worker.finish(Job.get(job.job_id))
    work()
    jobs = {"build", "lint", "test", "ship"}
    assert shown(provider) == {"graph": "in_progress", **{f"graph/{one}": "queued" for one in jobs}}
    run_id = str(job.run_id)
    build = worker.take()
    work()
    assert shown(provider)["graph/build"] == "in_progress"
    worker.finish(build)
    worker.finish_named(run_id, lint=1)
    work()
    assert shown(provider) == {
        "graph": "failure",
        "graph/build": "success",
        "graph/lint": "failure",
        "graph/test": "success",
        "graph/ship": "skipped",
    }
    by_id = {run["external_id"]: run["name"] for run in provider.check_runs}
    # Their ids are ours, so that a request to run one again names its job or its run.
    assert by_id == {run_id: "hybrid-ci/graph", **{name(run_id, one): f"hybrid-ci/graph/{one}" for one in jobs}}
    assert {run["head_sha"] for run in provider.check_runs} == {HEAD}
    assert len(provider.check_runs) == 5
    assert waiting() == 0
    assert Everything.read().inconsistencies() == []


def test_the_only_job_of_a_run_is_its_check_with_failed_tests_at_their_lines(
    worker: Worker, github: Connection, provider: FakeProvider, settings: object
) -> None:
    settings.PUBLIC_URL = "https://ci.example.com"  # type: ignore[attr-defined]
    job = begun(worker, checked_job())
    worker.report(job, STEPS)
    cases = "".join(
        f'<testcase classname="tests.test_cart" name="test_{number}"><failure message="assert 1 == 2">'
        f"tests/test_cart.py:{number + 1}: AssertionError</failure></testcase>"
        for number in range(60)
    )
    report = f'<testsuite name="pytest">{cases}<testcase name="good"/></testsuite>'.encode()
    report_add(
        agent_id=worker.agent.id,
        job_id=job.job_id,
        attempt=1,
        number=0,
        kind=ReportKind.JUNIT,
        file="report.xml",
        commit=HEAD,
        data=report,
    )
    worker.finish(job, exit_code=1)
    work()
    (run,) = provider.check_runs
    assert (run["name"], run["conclusion"]) == ("hybrid-ci/graph", "failure")
    assert run["details_url"] == f"https://ci.example.com/dashboard/jobs/{job.job_id}"
    assert run["output"]["title"].startswith("Failed with exit code 1 after ")
    assert "**Tests:** 1 of 61 passed, 60 failed." in run["output"]["summary"]
    found = run["output"]["annotations"]
    assert [one["start_line"] for one in found] == [*range(1, 61)]
    assert (found[0]["path"], found[0]["title"]) == ("tests/test_cart.py", "tests.test_cart: test_0")
    assert found[0]["message"].startswith("assert 1 == 2")


def test_a_job_that_runs_again_has_a_new_check_and_the_one_before_is_ended(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    run_id = graph_run(worker, f"jobs: {{one: {{{STEPS}}}, two: {{{STEPS}}}}}")
    first = worker.take()
    work()
    assert shown(provider)[f"graph/{first.node}"] == "in_progress"
    # It fails and is run again before the outbox is worked off.
    worker.finish(first, exit_code=1)
    job_retry(actor=OPERATOR, job_id=first.job_id)
    work()
    runs = {run["external_id"]: run.get("conclusion") or run["status"] for run in provider.check_runs}
    assert runs[first.job_id] == "failure"
    assert runs[name(run_id, str(first.node))] == "queued"
    worker.finish_named(run_id)
    worker.finish_named(run_id)
    work()
    assert shown(provider) == {"graph": "success", "graph/one": "success", "graph/two": "success"}


def test_a_run_that_begins_again_has_a_new_check(worker: Worker, github: Connection, provider: FakeProvider) -> None:
    job = begun(worker, checked_job())
    worker.finish(job, exit_code=1)
    work()
    run_retry(actor=OPERATOR, run_id=job.run_id)
    work()
    assert [run.get("conclusion") or run["status"] for run in provider.check_runs] == ["failure", "queued"]
    again = worker.take()
    assert again.checks_key == job.checks_key
    worker.finish(again)
    work()
    assert [run["conclusion"] for run in provider.check_runs] == ["failure", "success"]
    assert {run["external_id"] for run in provider.check_runs} == {job.run_id}


def test_a_cancelled_run_and_a_job_that_never_ran_end_their_checks(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    job = checked_job()
    job_cancel(actor=OPERATOR, job_id=str(job.job_id))
    work()
    assert shown(provider) == {"graph": "cancelled"}


class Died(BaseException):
    """The process has ended."""


def _die() -> None:
    raise Died


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_crash_between_act_and_delivery_loses_no_check(
    worker: Worker, github: Connection, provider: FakeProvider, step: int
) -> None:
    """The process that delivers ends before one of its calls to DynamoDB, each in turn."""
    call, died = 0, True
    while died:
        commit = f"{call:040x}"
        worker.finish(begun(worker, checked_job(commit=commit)))
        try:
            with before_call(_die, call=call):
                work()
            died = False
        except Died:
            pass
        # By then the lease of the dead one has ended.
        with clock.shifted(timedelta(seconds=61)):
            work()
        assert [run["conclusion"] for run in provider.check_runs if run["head_sha"] == commit] == ["success"], call
        call += step
    assert call > 10
    assert waiting() == 0


def test_while_the_provider_is_away_the_newest_state_waits(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    provider.before = lambda _asked: Answer(503)
    job = begun(worker, checked_job())
    other = checked_job(commit="f" * 40)
    work()
    worker.finish(job)
    assert work() == 0
    provider.before = lambda _asked: None
    with clock.shifted(timedelta(minutes=20)):
        work()
    assert [(run["head_sha"], run["status"]) for run in provider.check_runs if run["head_sha"] == HEAD] == [
        (HEAD, "completed")
    ]
    assert [run["status"] for run in provider.check_runs if run["head_sha"] == other.checks_key[-40:]] == ["queued"]


def test_after_a_rate_limit_nothing_is_asked_before_its_end(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    checked_job()
    provider.disturb("secondary", path="check-runs", seconds=120)
    work()
    asked = len(provider.asked)
    with clock.shifted(timedelta(seconds=110)):
        work()
    assert len(provider.asked) == asked
    with clock.shifted(timedelta(seconds=125)):
        work()
    assert shown(provider) == {"graph": "queued"}


def test_only_the_first_jobs_of_a_large_run_have_checks_and_a_call_sends_for_some_seconds(
    worker: Worker, github: Connection, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MOST_CHECKS", 3)
    monkeypatch.setattr(checks, "_SECONDS", 0)
    graph_run(worker, f"jobs: {{one: {{{STEPS}}}, two: {{{STEPS}}}, three: {{{STEPS}}}, four: {{{STEPS}}}}}")
    with pytest.raises(RetryLater) as later:
        checks_send(next(iter(map(OutboxItem.from_raw_data, Items().of(OutboxItem)))))
    assert later.value.seconds == 0
    monkeypatch.setattr(checks, "_SECONDS", 10)
    work()
    assert shown(provider) == {"graph": "in_progress", **{f"graph/{one}": "queued" for one in ("one", "two", "three")}}


def test_a_run_that_is_extended_while_it_is_read_is_not_taken_for_its_first_job(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    run_id = graph_run(worker, f"jobs: {{one: {{{STEPS}}}}}")
    work()
    Run(run_id, RUN).update(actions=[Run.jobs.add(1)])
    worker.take()
    assert work() == 0
    assert shown(provider) == {"graph": "in_progress", "graph/one": "queued"}
    Run(run_id, RUN).update(actions=[Run.jobs.add(-1)])
    with clock.shifted(timedelta(seconds=2)):
        work()
    assert shown(provider) == {"graph": "in_progress", "graph/one": "in_progress"}


def test_a_deployment_says_that_it_waits_for_its_gates_and_leads_to_where_it_is_approved(
    provider: FakeProvider, settings: Any, tables: None
) -> None:
    settings.PUBLIC_URL = "https://ci.example.com"
    worker = deployer()
    provider.repository_add(SHOP)
    app_connection(provider).save()
    environment(approvals=1, approver_roles=["operator"])
    run_id = graph_run(worker, DEPLOYS)
    work()
    run = provider.check_runs[-1]
    deployment_id = str(deployment_of(run_id).deployment_id)
    assert (run["name"], run["status"]) == ("hybrid-ci/graph/ship", "queued")
    assert run["output"]["title"] == "Waiting for the gates of production"
    assert run["details_url"] == f"https://ci.example.com/dashboard/deployments/{deployment_id}"
    deployment_approve(actor=acting(user("bob")), deployment_id=deployment_id)
    work()
    assert (run["status"], run["output"]["title"]) == ("queued", "Waiting for an agent")
    worker.finish(worker.take())
    work()
    assert shown(provider) == {"graph": "success", "graph/ship": "success"}
    assert len(provider.check_runs) == 2


def test_a_failure_that_the_file_allows_is_neutral(worker: Worker, github: Connection, provider: FakeProvider) -> None:
    run_id = graph_run(worker, f"jobs: {{one: {{allow_failure: true, {STEPS}}}, two: {{{STEPS}}}}}")
    worker.finish_named(run_id, one=1)
    work()
    assert shown(provider) == {"graph": "success", "graph/one": "neutral", "graph/two": "success"}


def test_a_connection_that_was_deleted_or_shows_no_checks_ends_the_item(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    checked_job()
    github.delete()
    work()
    Connection(
        connection_id="github",
        provider="standard",
        name="Any",
        created_at="",
        created_by="",
        changed_at="",
        changed_by="",
    ).save()
    checked_job()
    work()
    assert (waiting(), provider.asked) == (0, [])


def test_a_run_for_a_pull_request_has_checks_of_its_own_names(
    worker: Worker, github: Connection, provider: FakeProvider
) -> None:
    checked_job()
    checked_job(pull_request=7)
    work()
    assert shown(provider) == {"graph": "queued", "graph (pull request)": "queued"}


@pytest.mark.parametrize("kind", ["gitlab", "gitea"])
def test_other_providers_get_statuses(worker: Worker, provider: FakeProvider, kind: str) -> None:
    provider.repository_add(SHOP)
    connection_of(provider, kind, connection_id="github", token=provider.token_add()).save()
    job = begun(worker, checked_job())
    work()
    worker.finish(job, exit_code=1)
    work()
    assert {one.get("ref") for one in provider.statuses} == {"main" if kind == "gitlab" else None}
    assert [one["state"] for one in provider.statuses] == {
        "gitlab": ["running", "failed"],
        "gitea": ["pending", "failure"],
    }[kind]


def test_other_runs_cost_what_they_cost_before(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id)
    assert waiting() == 0
    assert run_view(run_id).run.checks_key is None
