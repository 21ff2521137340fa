"""Runs as users see them: cancelled, of one job, and with jobs that run again by themselves."""

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_create, job_retry, run_cancel
from apps.jobs.services.advance import run_advance
from controlplane.lib.errors import Conflict
from tests.conftest import OPERATOR
from tests.interleaving import before_call
from tests.jobs.runs import STEPS, Worker, states, status


def test_a_cancelled_run_ends_what_waits_and_asks_agents_to_end_the_rest(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{a: {{{STEPS}}}, b: {{{STEPS}}}, c: {{needs: a, {STEPS}}}}}")
    running = worker.take()
    run_cancel(actor=OPERATOR, run_id=run_id)
    assert states(run_id) == {"a": "queued", "b": "cancelled", "c": "cancelled"}
    assert Job.get(running.job_id).cancel_requested
    assert status(run_id) == "running"
    worker.finish(running, exit_code=143)
    assert status(run_id) == "cancelled"
    with pytest.raises(Conflict) as refused:
        run_cancel(actor=OPERATOR, run_id=run_id)
    assert refused.value.code == "run_finished"


def test_an_end_with_a_certain_exit_code_runs_again_as_often_as_the_file_says(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{test: {{retries: {{max: 1, on: [75]}}, {STEPS}}}}}")
    job = worker.take()
    worker.finish(job, exit_code=75)
    assert Job.get(job.job_id).status == "queued"
    job = worker.take()
    assert job.attempt == 2
    worker.finish(job, exit_code=75)
    assert (states(run_id), status(run_id)) == ({"test": "failed"}, "failed")


def test_a_run_of_one_job_follows_it(worker: Worker) -> None:
    run_id = worker.run(f"{STEPS}\nenv: {{A: '1'}}")
    view = run_view(run_id)
    assert (view.run.status, view.jobs, view.run.jobs) == ("completed", [], None)
    failed = job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    worker.finish(job, exit_code=1)
    assert status(job.run_id) == "failed"
    again = job_retry(actor=OPERATOR, job_id=failed.job_id)
    assert (again.run_id, status(job.run_id)) == (failed.run_id, "queued")
    assert run_view(job.run_id).run.job_id == again.job_id


def test_a_run_ends_once_when_two_advances_see_its_last_job_end(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{test: {{{STEPS}}}}}")
    last, ends = worker.take(), []

    def advance() -> None:
        run_advance(run_id=run_id)
        ends.append(run_view(run_id).run.completed_at)

    with before_call(advance, operations=frozenset({"UpdateItem"})):
        worker.finish(last)
    assert ends == [run_view(run_id).run.completed_at]
    assert status(run_id) == "completed"
