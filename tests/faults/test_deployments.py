"""DynamoDB fails while deployments wait, are decided about, begin and end: after the sweep all is well."""

from functools import partial

import pytest

from apps.accounts.models import User
from apps.jobs.models import Deployment
from apps.jobs.services import attempt_start
from apps.jobs.services.approvals import deployment_approve, deployment_reject
from apps.jobs.services.deployments import deployment_create, deployment_redeploy, deployment_rollback
from apps.jobs.services.environments import environment_change, environment_create, environment_delete
from controlplane.lib import clock
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.test_runs import first_job, swept
from tests.faults.world import Act, World
from tests.jobs.deployments import DEPLOYS, acting, deployment_of, environment
from tests.jobs.runs import Worker

AFTER_BUILD = """
jobs:
  build: {steps: [{run: make}]}
  ship: {needs: build, environment: production, steps: [{run: make}]}
"""

scenario = Scenarios(prepared_once=True)


def run(world: World) -> tuple[Worker, str]:
    """A run that has come to the job that deploys."""
    worker, job = first_job(world)
    worker.report(job, DEPLOYS)
    worker.finish(job)
    swept()
    return worker, str(job.run_id)


def bob() -> User:
    """Someone who may approve; the hash of a password would take time."""
    now = clock.timestamp(clock.now())
    user = User("01kabob0000000000000000000", email="bob@example.com", name="Bob", role="operator", password="!")
    user.created_at, user.name_key = now, "bob"
    user.save()
    return user


def waiting(world: World) -> tuple[Worker, str]:
    environment(approvals=1, approver_roles=["operator"])
    worker, run_id = run(world)
    return worker, str(deployment_of(run_id).deployment_id)


@scenario("name_taken")
def create_an_environment(_: World) -> Act:
    return partial(environment_create, actor=ADMIN, name="production", wait_seconds=60)


@scenario()
def change_an_environment_for_which_a_deployment_waits(world: World) -> Act:
    waiting(world)

    def act() -> None:
        environment_change(actor=ADMIN, name="production", approvals=0)
        swept()

    return act


@scenario("environment_not_found")
def delete_an_environment_for_which_a_deployment_waits(world: World) -> Act:
    waiting(world)

    def act() -> None:
        try:
            environment_delete(actor=ADMIN, name="production")
        finally:
            swept()

    return act


@scenario()
def come_to_a_deployment(world: World) -> Act:
    worker, job = first_job(world)
    worker.report(job, AFTER_BUILD)
    worker.finish(job)
    job = worker.take()

    def act() -> None:
        worker.finish(job)
        swept()

    return act


@scenario("deployment_state")
def approve_a_deployment(world: World) -> Act:
    _, deployment_id = waiting(world)
    actor = acting(bob())

    def act() -> None:
        try:
            deployment_approve(actor=actor, deployment_id=deployment_id, comment="fine")
        finally:
            swept()

    return act


@scenario("deployment_state")
def reject_a_deployment(world: World) -> Act:
    _, deployment_id = waiting(world)
    actor = acting(bob())

    def act() -> None:
        try:
            deployment_reject(actor=actor, deployment_id=deployment_id, comment="no")
        finally:
            swept()

    return act


@scenario()
def end_a_deployment_for_which_another_waits(world: World) -> Act:
    worker, _ = run(world)
    job = worker.take()
    run(world)

    def act() -> None:
        worker.finish(job)
        swept()

    return act


@scenario("stale_attempt")
def start_a_deployment_whose_gate_has_closed(world: World) -> Act:
    worker, _ = run(world)
    (job_id,) = worker.claim()
    environment_change(actor=ADMIN, name="production", approvals=1, approver_roles=["operator"])

    def act() -> None:
        try:
            attempt_start(agent=world.agent, job_id=job_id, attempt=1)
        finally:
            swept()

    return act


@scenario()
def start_a_deployment(world: World) -> Act:
    worker, _ = run(world)
    (job_id,) = worker.claim()
    return partial(attempt_start, agent=world.agent, job_id=job_id, attempt=1)


@scenario()
def ask_for_a_deployment(_: World) -> Act:
    return partial(deployment_create, actor=ADMIN, pipeline="repo", environment="production", idempotency_key="one")


@scenario()
def deploy_again(world: World) -> Act:
    worker, run_id = run(world)
    worker.finish(worker.take())
    deployment_id = str(deployment_of(run_id).deployment_id)
    return partial(deployment_redeploy, actor=ADMIN, deployment_id=deployment_id, idempotency_key="one")


@scenario()
def go_back(world: World) -> Act:
    worker, first = run(world)
    worker.finish(worker.take())
    worker, run_id = run(world)
    worker.finish(worker.take(), exit_code=1)
    deployment_id = str(deployment_of(run_id).deployment_id)
    Deployment(deployment_of(first).deployment_id).update(actions=[Deployment.commit.set("beef" * 10)])
    return partial(deployment_rollback, actor=ADMIN, deployment_id=deployment_id, idempotency_key="one")


# The others are tried at night.
BY_DAY = {"approve_a_deployment"}
ACTS = [
    pytest.param(act, id=str(act), marks=() if act.prepare.__name__ in BY_DAY else pytest.mark.nightly)
    for act in scenario
]


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", ACTS)
def test_after_a_fault_at_any_call_the_sweep_brings_the_deployment_where_it_belongs(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
