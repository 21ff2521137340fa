"""Deployments wait until the gates of their environment open, in each form of a pipeline file."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.core.cache import cache

from apps.jobs.models import DUE, RUN, Job, Run, RunGraph, RunNode
from apps.jobs.run_graph import graph_pack, graph_unpack
from apps.jobs.selectors.environments import environment_find, environment_list, environment_view
from apps.jobs.selectors.jobs_of_run import run_waits
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_create, job_retry, run_advance, runs_advance
from apps.jobs.services.approvals import deployment_approve
from apps.jobs.services.environments import environment_change, environment_delete
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.errors import Conflict, Unprocessable
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import every_order
from tests.jobs.deployments import DEPLOYS, STEPS, TWO_STAGES, acting, deployer, deployment_of, environment, user
from tests.jobs.runs import Worker, states, status
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything

MAKE = "steps: [{run: make}]"


@pytest.fixture
def worker(tables: None) -> Worker:
    return deployer()


def test_a_job_to_an_environment_that_nothing_is_known_of_runs_as_before_and_makes_it(worker: Worker) -> None:
    run = worker.run(DEPLOYS)
    assert states(run) == {"ship": "queued"}
    (seen,) = environment_list()
    assert (seen.environment.name, seen.environment.created_by) == ("production", "control plane")
    assert seen.environment.holders == {deployment_of(run).deployment_id}
    job = worker.take()
    assert job.definition
    assert job.definition["environment"] == "production"
    worker.finish(job)
    assert (states(run), status(run)) == ({"ship": "completed"}, "completed")
    deployment = deployment_of(run)
    assert (deployment.status, deployment.commit, deployment.requested_by) == ("completed", job.commit, "operator")
    view = environment_view("production")
    assert view
    assert not view.environment.holders
    assert not view.waiting
    (live,) = view.live
    assert (live.deployment_id, live.commit, live.pipeline) == (deployment.deployment_id, job.commit, "graph")
    assert Everything.read().inconsistencies() == []


def test_a_deployment_waits_for_its_approval_and_begins_with_it(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    assert states(run) == {"ship": "waiting"}
    assert worker.claim() == []
    approved = deployment_approve(actor=acting(user("bob")), deployment_id=str(deployment_of(run).deployment_id))
    assert (approved.status, [one["by"] for one in approved.approvals]) == ("in_progress", ["Bob"])
    worker.finish(worker.take())
    assert status(run) == "completed"


@pytest.mark.parametrize("where", ["server", "repository"])
def test_no_step_runs_before_the_gates_open_also_if_only_the_repository_has_the_file(
    worker: Worker, where: str
) -> None:
    environment(approvals=1, approver_roles=["operator"])
    text = "jobs: {ship: {environment: production, steps: [{run: make deploy}]}}"
    if where == "server":
        pipeline_save(
            actor=ADMIN, name="graph", repository="https://git.example.com/x.git", default_ref="main", definition=text
        )
    created = job_create(actor=OPERATOR, pipeline="graph")
    first = worker.take()
    # Its agent gets nothing to run but what reads the file.
    assert (first.job_id, first.definition) == (created.job_id, None)
    definition = worker.report(first, "" if where == "server" else text)
    assert "make deploy" not in str(definition)
    worker.finish(first)
    run = str(created.run_id)
    assert (states(run), worker.claim()) == ({"ship": "waiting"}, [])
    deployment_approve(actor=acting(user("bob")), deployment_id=str(deployment_of(run).deployment_id))
    job = worker.take()
    assert job.definition
    assert job.definition["steps"][0]["run"] == "make deploy"


def test_a_file_of_steps_cannot_name_an_environment(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    with pytest.raises(Unprocessable) as refused:
        worker.report(worker.take(), "environment: production\nsteps: [{run: make deploy}]\n")
    assert "unknown key 'environment'; write `jobs:`" in refused.value.message


def test_a_wait_timer_opens_by_the_sweep(worker: Worker) -> None:
    environment(wait_seconds=300)
    run = worker.run(DEPLOYS)
    for seconds, expected in ((200, "waiting"), (310, "queued")):
        with clock.shifted(timedelta(seconds=seconds)):
            runs_advance(seconds=60)
            assert states(run) == {"ship": expected}


def test_a_freeze_ends_by_the_sweep_and_one_that_is_set_keeps_back_what_is_queued(worker: Worker) -> None:
    now = clock.now()
    frozen = [{"from": f"{now:%Y-%m-%d}T00:00", "until": f"{now + timedelta(days=1):%Y-%m-%d}T00:00", "zone": "UTC"}]
    run = worker.run(DEPLOYS)
    assert states(run) == {"ship": "queued"}
    environment_change(actor=ADMIN, name="production", freezes=frozen)
    (job_id,) = worker.claim()
    with pytest.raises(Conflict) as refused:
        worker.start(job_id)
    assert refused.value.code == "stale_attempt"
    assert states(run) == {"ship": "waiting"}
    assert deployment_of(run).status == "waiting"
    assert not (environment_find("production") or environment()).holders
    assert Everything.read().inconsistencies() == []
    with clock.shifted(timedelta(hours=25)):
        runs_advance(seconds=60)
        job = worker.take()
        assert (job.job_id, job.attempt) == (job_id, 2)
        worker.finish(job)
    assert status(run) == "completed"


def test_a_deployment_is_always_alone_in_its_environment_and_the_oldest_is_next(worker: Worker) -> None:
    runs = [worker.run(DEPLOYS) for _ in range(3)]
    for number in range(3):
        expected = [*["completed"] * number, "queued", *["waiting"] * (2 - number)]
        assert [states(run)["ship"] for run in runs] == expected
        worker.finish(worker.take())
    assert [status(run) for run in runs] == ["completed"] * 3
    view = environment_view("production")
    assert view
    assert (view.live[0].run_id, view.live[0].before_id) == (
        runs[2],
        deployment_of(runs[1]).deployment_id,
    )


def test_an_approval_is_for_one_job_a_retry_needs_another(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    bob = acting(user("bob"))
    run = worker.run(DEPLOYS)
    first = deployment_of(run)
    deployment_approve(actor=bob, deployment_id=str(first.deployment_id))
    worker.finish(worker.take(), exit_code=1)
    job_retry(actor=OPERATOR, job_id=str(first.deployment_id))
    again = deployment_of(run)
    assert again.deployment_id != first.deployment_id
    assert (again.status, again.approvals, states(run)) == ("waiting", None, {"ship": "waiting"})


def test_refs_that_an_environment_does_not_allow_are_refused(worker: Worker) -> None:
    environment(allowed_refs=["main", "refs/tags/v*"])
    run = worker.run(DEPLOYS, git_ref="feature/x")
    job = Job.get(run_view(run).nodes["ship"].job_id)
    assert (job.status, status(run)) == ("failed", "failed")
    assert job.error_message == "feature/x may not be deployed to production, which allows: main, refs/tags/v*."
    for ref in ("main", "refs/heads/main", "refs/tags/v1"):
        run = worker.run(DEPLOYS, git_ref=ref)
        assert states(run) == {"ship": "queued"}
        worker.finish(worker.take())


def test_a_pull_request_of_a_fork_never_gets_an_environment(worker: Worker) -> None:
    created = job_create(actor=OPERATOR, pipeline="graph")
    Run(created.run_id, RUN).update(actions=[Run.event.set("pull_request")])
    first = worker.take()
    worker.report(first, TWO_STAGES)
    worker.finish(first)
    worker.finish(worker.take())
    run = str(created.run_id)
    assert states(run) == {"build": "completed", "stage": "skipped", "ship": "skipped"}
    assert environment_list() == []
    assert "forks deploy to no environment" in str(run_view(run).nodes["stage"].reason)


def test_a_deleted_environment_comes_back_only_by_a_person(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    environment_delete(actor=ADMIN, name="production")
    assert (states(run), deployment_of(run).status) == ({"ship": "failed"}, "failed")
    run = worker.run(DEPLOYS)
    assert states(run) == {"ship": "failed"}
    environment()
    assert states(worker.run(DEPLOYS)) == {"ship": "queued"}


def test_a_deployment_in_a_concurrency_group_takes_both_or_none(worker: Worker) -> None:
    text = f"jobs: {{ship: {{environment: production, concurrency: {{group: one}}, {STEPS}}}}}"
    other = f"jobs: {{test: {{concurrency: {{group: one}}, {STEPS}}}}}"
    holds, run = worker.run(other), worker.run(text)
    assert (states(holds), states(run)) == ({"test": "queued"}, {"ship": "waiting"})
    assert not (environment_find("production") or environment()).holders
    worker.finish(worker.take())
    assert states(run) == {"ship": "queued"}
    assert (environment_find("production") or environment()).holders
    worker.finish(worker.take())
    assert Everything.read().inconsistencies() == []


def test_a_waiting_deployment_is_marked_for_a_look_within_ten_minutes(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    (row,) = RunNode.query(run, RunNode.part == "job#ship")
    due = clock.parse_timestamp(row.due_at)
    assert row.due == DUE
    assert timedelta(minutes=9) < due - clock.now() <= timedelta(minutes=10)
    with clock.shifted(timedelta(minutes=11)):
        runs_advance(seconds=60)
        (row,) = RunNode.query(run, RunNode.part == "job#ship")
        assert clock.parse_timestamp(row.due_at) > clock.now()


def test_an_attempt_of_a_job_that_never_had_its_gates_waits_for_them(worker: Worker) -> None:
    """As one that was queued by the release before."""
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(f"jobs: {{ship: {{{STEPS}}}}}")
    (part,) = run_view(run).parts
    (job,) = graph_unpack(part.packed)
    changed = graph_pack([replace(job, node=replace(job.node, environment="production"))])
    RunGraph(run, part.part).update(actions=[RunGraph.packed.set(changed)])
    (job_id,) = worker.claim()
    with pytest.raises(Conflict):
        worker.start(job_id)
    assert (states(run), deployment_of(run).status) == ({"ship": "waiting"}, "waiting")


def test_what_many_deployments_wait_for_costs_a_few_calls(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    cells = list(map(str, range(6)))
    run = worker.run(f"jobs: {{ship: {{environment: production, matrix: {{axes: {{n: {cells}}}}}, {STEPS}}}}}")
    view = run_view(run)
    with dynamodb_calls() as metering:
        waits = run_waits(view)
    assert {waiting.code for waiting in waits.values()} == {"approval"}
    assert (len(waits), metering.calls) == (6, 2)


def test_of_two_advances_at_once_one_deployment_gets_the_environment(worker: Worker, emulator: str) -> None:
    environment(wait_seconds=60)
    runs = [worker.run(DEPLOYS) for _ in range(2)]
    prepared = items_read(emulator)
    with clock.shifted(timedelta(seconds=61)):
        for order in every_order():
            items_replace(emulator, prepared)
            cache.clear()
            order.race(*(partial(run_advance, run_id=run) for run in runs))
            assert sorted(states(run)["ship"] for run in runs) == ["queued", "waiting"]
            assert len((environment_find("production") or environment()).holders) == 1


def test_a_label_of_a_target_leads_past_no_gates(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    asks = "labels: ['deploy:production']"
    run = worker.run(f"jobs: {{ship: {{{asks}, {STEPS}}}}}")
    (job_id,) = worker.claim()
    with pytest.raises(Conflict):
        worker.start(job_id)
    job = Job.get(job_id)
    assert (job.status, status(run)) == ("failed", "failed")
    assert "write `environment: production` in the job" in job.error_message
    # Nor do those of a file of steps.
    job_create(actor=OPERATOR, pipeline="graph")
    with pytest.raises(Unprocessable) as refused:
        worker.report(worker.take(), f"{asks}\n{STEPS}\n")
    assert "which has gates" in refused.value.message
    # A pipeline whose jobs all run on these agents reads its file there, and waits for the gates where it deploys.
    run = worker.run(DEPLOYS, labels=["deploy:production"])
    assert states(run) == {"ship": "waiting"}
    # Without gates, such labels are what they were.
    environment_change(actor=ADMIN, name="production", approvals=0)
    worker.finish(worker.take())
    run = worker.run(f"jobs: {{ship: {{{asks}, {STEPS}}}}}")
    worker.finish(worker.take())
    assert status(run) == "completed"
