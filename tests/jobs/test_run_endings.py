"""Jobs that a run ends without an attempt, and the end of the run."""

from apps.jobs.models import Job
from apps.jobs.selectors import job_list
from apps.jobs.selectors.counters import outcome_total
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import run_retry
from apps.jobs.services.run_endings import Freed, run_end
from apps.jobs.states import RunStatus, Status
from tests.conftest import OPERATOR
from tests.jobs.runs import DIAMOND, Worker, status


def test_skipped_jobs_are_counted_and_listed_as_such(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id, build=1)
    assert (outcome_total("skipped"), outcome_total("failed"), outcome_total("created")) == (3, 1, 5)
    listed = job_list(status=Status.SKIPPED).jobs
    assert {job.node for job in listed} == {"lint", "test", "ship"}
    assert {job.error_message for job in listed} == {
        "The job was skipped: build failed.",
        "The job was skipped: lint was skipped.",
    }


def test_a_run_does_not_end_with_what_was_read_before_a_retry(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id, build=1)
    before = run_view(run_id)
    run_retry(actor=OPERATOR, run_id=run_id)
    assert run_end(before, RunStatus.FAILED, Freed()) is False
    assert status(run_id) == "running"
    assert Job.get(run_view(run_id).nodes["build"].job_id).status == "queued"
