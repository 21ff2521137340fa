"""Jobs of a run that are run again: in their places, and with what waits for them."""

from datetime import timedelta

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.jobs_of_run import job_waits
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_retry, run_retry
from controlplane.lib import clock
from controlplane.lib.errors import Conflict
from tests.conftest import OPERATOR
from tests.jobs.runs import DIAMOND, Worker, states, status


def test_a_retry_of_a_run_keeps_what_succeeded_and_runs_the_rest_again(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id)
    worker.finish_named(run_id, lint=1)
    assert states(run_id) == {"build": "completed", "lint": "failed", "test": "completed", "ship": "skipped"}
    old = run_view(run_id).nodes
    run_retry(actor=OPERATOR, run_id=run_id)
    assert states(run_id) == {"build": "completed", "lint": "queued", "test": "completed", "ship": "waiting"}
    assert status(run_id) == "running"
    new = run_view(run_id).nodes
    assert new["build"].job_id == old["build"].job_id
    assert Job.get(new["lint"].job_id).retry_of == old["lint"].job_id
    assert Job.get(old["lint"].job_id).retried_by == [new["lint"].job_id]
    worker.finish_named(run_id)
    worker.finish_named(run_id)
    assert status(run_id) == "completed"
    with pytest.raises(Conflict) as refused:
        run_retry(actor=OPERATOR, run_id=run_id)
    assert refused.value.code == "run_nothing_to_retry"
    run_retry(actor=OPERATOR, run_id=run_id, everything=True)
    assert states(run_id) == {"build": "queued", "lint": "waiting", "test": "waiting", "ship": "waiting"}


def test_a_job_is_retried_in_its_run_and_what_it_held_up_goes_on(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id, build=1)
    job = job_retry(actor=OPERATOR, job_id=run_view(run_id).nodes["build"].job_id)
    assert (job.run_id, job.node, job.status) == (run_id, "build", "queued")
    assert states(run_id) == {"build": "queued", "lint": "waiting", "test": "waiting", "ship": "waiting"}
    for _ in range(3):
        worker.finish_named(run_id)
    assert status(run_id) == "completed"


def test_a_job_that_is_run_again_waits_since_then_and_not_since_the_start_of_its_run(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id)
    with clock.shifted(timedelta(hours=1)):
        worker.finish_named(run_id, lint=1)
        run_retry(actor=OPERATOR, run_id=run_id, everything=False)
        job = job_get(str(run_view(run_id).nodes["ship"].job_id))
        waiting = job_waits(job)
        assert (job.status, waiting and waiting.since) == ("waiting", job.created_at)
        assert waiting
        assert waiting.message.startswith("Waiting for 0 s; it needs lint to end")
