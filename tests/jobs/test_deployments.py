"""Users ask for deployments: of a ref, of a run's commit, again, and back to the last good one."""

from datetime import timedelta
from typing import Any

import pytest

from apps.audit.selectors import audit_search
from apps.jobs.models import RUN, Deployment, Job, Run
from apps.jobs.selectors.deployments import deployment_list
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import attempt_start, job_cancel, job_retry
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.deployments import deployment_create, deployment_redeploy, deployment_rollback
from apps.jobs.services.queue import entry_of
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unprocessable
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.deployments import DEPLOYS, STEPS, TWO_STAGES, deployer, deployment_of, environment
from tests.jobs.runs import COMMIT, Worker, states, status

OTHER = "beef" * 10
BOTH = f"""
jobs:
  build: {{{STEPS}}}
  lint: {{{STEPS}}}
  stage: {{needs: build, environment: staging, {STEPS}}}
  ship: {{needs: stage, if: "branch == 'main' && event == 'api'", environment: production, {STEPS}}}
"""


@pytest.fixture
def worker(tables: None) -> Worker:
    return deployer()


def read(worker: Worker, job: Job, text: str, *, commit: str = COMMIT) -> str:
    """The run's first job reads the file; returns the id of the run."""
    _entry_claim(entry_of(job, attempt=1), agent=worker.agent, slots=64)
    first = worker.start(job.job_id)
    worker.report(first, text)
    worker.finish(first)
    return str(job.run_id)


def all_done(worker: Worker, run: str) -> None:
    while jobs := [*worker.take_all()]:
        for job in jobs:
            worker.finish(job)
    assert status(run) == "completed"


def test_a_deployment_of_a_ref_runs_what_deploys_there_and_what_it_needs_and_nothing_else(worker: Worker) -> None:
    job = deployment_create(actor=OPERATOR, pipeline="graph", environment="production", git_ref="main")
    run = read(worker, job, TWO_STAGES + f"  other: {{environment: elsewhere, {STEPS}}}\n  lint: {{{STEPS}}}\n")
    assert states(run) == {"build": "queued", "stage": "waiting", "ship": "waiting"}
    all_done(worker, run)
    deployment = deployment_of(run)
    assert (deployment.status, deployment.event, deployment.requested_by) == ("completed", "deployment", "operator")


def test_a_run_that_is_deployed_further_has_its_commit_and_leaves_other_environments_out(worker: Worker) -> None:
    first = worker.run(BOTH)
    Run(first, RUN).update(actions=[Run.commit.set(OTHER)])
    job = deployment_create(actor=OPERATOR, environment="production", run_id=first)
    _entry_claim(entry_of(job, attempt=1), agent=worker.agent, slots=64)
    started = attempt_start(agent=worker.agent, job_id=str(job.job_id), attempt=1)
    # The agent fetches this commit, and conditions see the ref and the event of then.
    assert (started.commit, started.is_commit_given, started.git_ref) == (OTHER, True, "main")
    worker.report(started, BOTH)
    worker.finish(started)
    run = str(job.run_id)
    assert list(states(run)) == ["build", "ship"]
    assert run_view(run).run.commit == OTHER
    for other in worker.take_all():
        if other.run_id == run:
            worker.finish(other)
    assert states(run) == {"build": "completed", "ship": "completed"}


def shipped(worker: Worker, commit: str) -> str:
    """The id of a good deployment of this commit."""
    run = worker.run(DEPLOYS)
    Run(run, RUN).update(actions=[Run.commit.set(commit)])
    deployment = deployment_of(run)
    Deployment(deployment.deployment_id).update(actions=[Deployment.commit.set(commit)])
    all_done(worker, run)
    return str(deployment.deployment_id)


def test_a_rollback_runs_the_last_good_ones_commit_again_as_a_new_deployment(worker: Worker) -> None:
    good, again, bad = shipped(worker, "a" * 40), shipped(worker, "b" * 40), shipped(worker, "b" * 40)
    job = deployment_rollback(actor=OPERATOR, deployment_id=bad)
    # The one before has the same commit, so it is not what was good before.
    assert (job.commit, run_view(str(job.run_id)).run.repeats) == ("a" * 40, good)
    run = read(worker, job, DEPLOYS)
    all_done(worker, run)
    deployment = deployment_of(run)
    assert deployment.deployment_id not in (good, again, bad)
    assert (deployment.commit, deployment.repeats, deployment.before_id) == ("a" * 40, good, bad)
    (asked,) = [
        one for one in audit_search(target="environment:production").records if one.action == "deployment.requested"
    ]
    assert (asked.detail["what"], asked.actor_name) == ("rollback", "operator")


def test_a_failed_deployment_goes_back_to_what_is_live(worker: Worker) -> None:
    good = shipped(worker, "a" * 40)
    run = worker.run(DEPLOYS)
    worker.finish(worker.take(), exit_code=1)
    job = deployment_rollback(actor=OPERATOR, deployment_id=str(deployment_of(run).deployment_id))
    assert run_view(str(job.run_id)).run.repeats == good


def test_the_first_deployment_has_nothing_to_go_back_to(worker: Worker) -> None:
    with pytest.raises(Conflict) as refused:
        deployment_rollback(actor=OPERATOR, deployment_id=shipped(worker, "a" * 40))
    assert refused.value.code == "nothing_to_put_back"


def test_a_redeployment_has_the_same_commit_and_asks_its_gates_again(worker: Worker) -> None:
    first = shipped(worker, "a" * 40)
    job = deployment_redeploy(actor=OPERATOR, deployment_id=first)
    run = read(worker, job, DEPLOYS)
    assert (states(run), deployment_of(run).commit) == ({"ship": "queued"}, "a" * 40)
    with pytest.raises(Conflict) as refused:
        deployment_redeploy(actor=OPERATOR, deployment_id=str(deployment_of(run).deployment_id))
    assert refused.value.code == "deployment_state"


def test_what_strangers_proposed_stays_proposed(worker: Worker) -> None:
    first = worker.run(DEPLOYS)
    Run(first, RUN).update(actions=[Run.event.set("pull_request")])
    job = deployment_create(actor=ADMIN, environment="production", run_id=first)
    assert (job.event, run_view(str(job.run_id)).run.event) == ("pull_request", "pull_request")
    assert states(read(worker, job, DEPLOYS)) == {"ship": "skipped"}


def test_the_same_key_starts_one_run(worker: Worker) -> None:
    first = deployment_create(actor=OPERATOR, pipeline="graph", environment="x", idempotency_key="k")
    again = deployment_create(actor=OPERATOR, pipeline="graph", environment="x", idempotency_key="k")
    assert first.job_id == again.job_id


def test_a_file_in_which_no_job_deploys_there_fails_with_the_reason(worker: Worker) -> None:
    job = deployment_create(actor=OPERATOR, pipeline="graph", environment="produktion")
    _entry_claim(entry_of(job, attempt=1), agent=worker.agent, slots=64)
    with pytest.raises(Unprocessable) as refused:
        worker.report(worker.start(job.job_id), DEPLOYS)
    assert refused.value.message == (
        "environment: must be one that a job of the pipeline deploys to: production, not produktion"
    )
    job = deployment_create(actor=OPERATOR, pipeline="graph", environment="production")
    _entry_claim(entry_of(job, attempt=1), agent=worker.agent, slots=64)
    with pytest.raises(Unprocessable) as refused:
        worker.report(worker.start(job.job_id), "steps: [{run: make}]")
    assert "has no job that deploys" in refused.value.message


def test_what_can_only_fail_is_refused_at_once(worker: Worker) -> None:
    environment(allowed_refs=["main"])
    with pytest.raises(InvalidInput) as refused:
        deployment_create(actor=OPERATOR, pipeline="graph", environment="production", git_ref="x")
    assert refused.value.errors[0]["field"] == "git_ref"
    with pytest.raises(NotFound):
        deployment_create(actor=OPERATOR, pipeline="nothing", environment="production")
    wrongs: list[dict[str, Any]] = [{"environment": "a b"}, {"environment": "x", "run_id": "y", "git_ref": "main"}]
    for wrong in wrongs:
        with pytest.raises(InvalidInput):
            deployment_create(actor=OPERATOR, pipeline="graph", **wrong)


FILLED_IN = f"""
parameters: {{to: {{default: a}}}}
jobs: {{ship: {{environment: 'to-${{{{ parameters.to }}}}', {STEPS}}}}}
"""


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("steps: [{run: make}]", "no job of the pipeline deploys anywhere, not nosuch"),
        (DEPLOYS, "must be one that a job of the pipeline deploys to: production, not nosuch"),
        (FILLED_IN, "must be one that a job of the pipeline deploys to: to-a, not nosuch"),
    ],
)
def test_an_environment_to_which_no_job_of_a_stored_definition_deploys_is_refused_at_once(
    worker: Worker, definition: str, said: str
) -> None:
    run_id = worker.run(DEPLOYS)
    address = "https://git.example.com/graph.git"
    pipeline_save(actor=ADMIN, name="graph", repository=address, default_ref="main", definition=definition)
    wishes: list[dict[str, Any]] = [{"pipeline": "graph"}, {"run_id": run_id}]
    for asked in wishes:
        with pytest.raises(InvalidInput) as refused:
            deployment_create(actor=OPERATOR, environment="nosuch", **asked)
        (error,) = refused.value.errors
        assert error["field"] == "environment"
        assert said in error["message"]


def test_an_environment_whose_name_a_stored_definition_fills_in_is_taken(worker: Worker) -> None:
    address = "https://git.example.com/graph.git"
    for name in ("${{ parameters.to }}", "preview-${{ commit }}"):
        text = f"parameters: {{to: {{required: true}}}}\njobs: {{ship: {{environment: '{name}', {STEPS}}}}}"
        pipeline_save(actor=ADMIN, name="graph", repository=address, default_ref="main", definition=text)
        job = deployment_create(
            actor=OPERATOR, environment="production", pipeline="graph", parameters={"to": "production"}
        )
        assert job.event == "deployment"


def test_a_run_whose_first_job_is_run_again_still_deploys_its_commit_and_nothing_else(worker: Worker) -> None:
    first = worker.run(DEPLOYS)
    Run(first, RUN).update(actions=[Run.commit.set(OTHER)])
    job = deployment_create(actor=OPERATOR, environment="production", run_id=first)
    pipeline_save(
        actor=ADMIN,
        name="graph",
        repository="https://git.example.com/x.git",
        default_ref="main",
        definition="steps: [{run: make}]",
    )
    job_cancel(actor=OPERATOR, job_id=str(job.job_id))
    again = job_retry(actor=OPERATOR, job_id=str(job.job_id))
    assert (again.commit, again.is_commit_given, again.definition) == (OTHER, True, None)
    _entry_claim(entry_of(again, attempt=1), agent=worker.agent, slots=64)
    with pytest.raises(Unprocessable) as refused:
        worker.report(worker.start(again.job_id), "")
    assert "has no job that deploys" in refused.value.message


def test_the_newest_deployments_of_all_months_are_listed(worker: Worker) -> None:
    ids = []
    for days in (0, 40, 400):
        with clock.shifted(timedelta(days=days)):
            ids.append(shipped(worker, "a" * 40))
    with clock.shifted(timedelta(days=800)):
        first = deployment_list(limit=2)
        rest = deployment_list(limit=2, cursor=first.next_cursor)
    assert [one.deployment_id for one in [*first.deployments, *rest.deployments]] == ids[::-1]
