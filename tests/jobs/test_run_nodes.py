"""What the end of a job changes of its run: nothing if the job was run again since."""

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import attempt_expire, job_create, job_retry
from tests.conftest import OPERATOR
from tests.jobs.runs import COMMIT, Worker, states, status

ONE = "jobs: {test: {retries: 0, steps: [{run: make}]}}"


def lose(worker: Worker, job: Job) -> None:
    attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=1, heartbeat_at=None, reason="it is silent")


def test_the_late_end_of_a_lost_job_counts_for_its_run(worker: Worker) -> None:
    run_id = worker.run(ONE)
    job = worker.take()
    lose(worker, job)
    assert (states(run_id), status(run_id)) == ({"test": "failed"}, "failed")
    worker.finish(job)
    assert states(run_id) == {"test": "completed"}


def test_the_late_end_of_a_job_that_was_run_again_changes_nothing_in_the_run(worker: Worker) -> None:
    run_id = worker.run(ONE)
    job = worker.take()
    lose(worker, job)
    again = job_retry(actor=OPERATOR, job_id=job.job_id)
    worker.finish(job)
    assert Job.get(job.job_id).status == "completed"
    assert (run_view(run_id).nodes["test"].job_id, states(run_id)) == (again.job_id, {"test": "queued"})


def test_the_run_of_an_only_job_has_its_commit(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    worker.report(job, "steps: [{run: make}]")
    worker.finish(job)
    assert run_view(job.run_id).run.commit == COMMIT
