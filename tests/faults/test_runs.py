"""DynamoDB fails while a run is expanded, advanced, extended, cancelled and run again: after the sweep all is well."""

from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import FileReport, attempt_define, job_create, run_cancel, run_extend, run_retry, runs_advance
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.queue import entry_of
from controlplane.lib import clock
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World
from tests.jobs.runs import COMMIT, Worker

GRAPH = """
jobs:
  build: {steps: [{run: make}]}
  test: {needs: build, matrix: {axes: {n: ["1", "2", "3"]}, max_parallel: 2}, steps: [{run: make}]}
  ship: {needs: test, concurrency: {group: prod}, steps: [{run: make}]}
  never: {needs: build, if: "branch == 'other'", steps: [{run: make}]}
  last: {needs: never, steps: [{run: make}]}
"""
MORE = "jobs: {more: {needs: build, steps: [{run: make}]}, most: {steps: [{run: make}]}}"

scenario = Scenarios(prepared_once=True)


def swept() -> None:
    """The sweep, some seconds later."""
    with clock.shifted(timedelta(seconds=5)):
        runs_advance(seconds=60)
    cache.clear()


def first_job(world: World) -> tuple[Worker, Job]:
    """The started first job of a run whose file is in the repository."""
    worker = Worker(world.agent)
    created = job_create(actor=ADMIN, pipeline="repo")
    _entry_claim(entry_of(created, attempt=1), agent=world.agent, slots=2)
    return worker, worker.start(created.job_id)


def graph(world: World) -> tuple[Worker, str]:
    """A run whose first job has read the graph and has ended."""
    worker, job = first_job(world)
    worker.report(job, GRAPH)
    worker.finish(job)
    swept()
    return worker, str(job.run_id)


@scenario("stale_attempt")
def expand(world: World) -> Act:
    worker, job = first_job(world)
    report = FileReport(commit=COMMIT, text=GRAPH)

    def act() -> None:
        attempt_define(agent=worker.agent, agent_labels=[], job_id=job.job_id, attempt=1, report=report)
        swept()

    return act


@scenario()
def finish_with_successors(world: World) -> Act:
    worker, _ = graph(world)
    job = worker.take()

    def act() -> None:
        worker.finish(job)
        swept()

    return act


@scenario()
def finish_with_a_failure(world: World) -> Act:
    worker, _ = graph(world)
    job = worker.take()

    def act() -> None:
        worker.finish(job, exit_code=1)
        swept()

    return act


@scenario()
def finish_the_holder_of_a_slot(world: World) -> Act:
    worker = Worker(world.agent)
    for _ in range(2):
        created = job_create(actor=ADMIN, pipeline="repo")
        _entry_claim(entry_of(created, attempt=1), agent=world.agent, slots=2)
        job = worker.start(created.job_id)
        worker.report(job, "jobs: {ship: {concurrency: {group: prod}, steps: [{run: make}]}}")
        worker.finish(job)
    swept()
    holder = worker.take()

    def act() -> None:
        worker.finish(holder)
        swept()

    return act


@scenario("run_finished")
def cancel_a_run(world: World) -> Act:
    worker, run_id = graph(world)
    worker.take()

    def act() -> None:
        run_cancel(actor=ADMIN, run_id=run_id)
        swept()

    return act


@scenario("run_nothing_to_retry")
def run_a_run_again(world: World) -> Act:
    worker, run_id = graph(world)
    worker.finish(worker.take(), exit_code=1)
    swept()

    def act() -> None:
        view = run_view(run_id)
        if view.states["build"] == "failed":
            run_retry(actor=ADMIN, run_id=run_id)
        swept()

    return act


@scenario()
def extend_a_run(world: World) -> Act:
    worker, _ = graph(world)
    job = worker.take()

    def act() -> None:
        run_extend(agent=worker.agent, job_id=job.job_id, attempt=1, text=MORE)
        swept()

    return act


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_after_a_fault_at_any_call_the_sweep_brings_the_run_where_it_belongs(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
