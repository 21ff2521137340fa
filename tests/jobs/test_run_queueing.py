"""Letting jobs of a run start: in bounded transactions, in the sets of their labels."""

from apps.jobs.label_sets import set_id
from apps.jobs.models import Job
from apps.jobs.selectors.queue import queue_head, queue_registry
from apps.jobs.selectors.runs import run_view
from apps.jobs.services.run_queueing import BATCH
from tests.jobs.runs import STEPS, Worker, states
from tests.metering import dynamodb_calls


def test_jobs_are_queued_in_transactions_of_bounded_size(worker: Worker) -> None:
    values = [str(n) for n in range(BATCH + 1)]
    run_id = worker.run(f"jobs: {{a: {{{STEPS}}}, b: {{needs: a, matrix: {{axes: {{n: {values}}}}}, {STEPS}}}}}")
    job = worker.take()
    with dynamodb_calls() as metering:
        worker.finish(job)
    assert metering.operations.count("TransactWriteItems") == 3
    assert list(states(run_id).values()).count("queued") == BATCH + 1


def test_a_job_waits_in_the_set_of_its_own_labels_and_those_of_the_run_with_its_priority(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{a: {{labels: [gpu], priority: 90, {STEPS}}}}}")
    record = Job.get(run_view(run_id).nodes["a"].job_id)
    assert (record.labels, record.priority) == (["gpu"], 90)
    (entry,) = queue_head(set_id(["gpu"]))
    assert entry.position.startswith("010#")
    hints = {row.position: row.hint for row in queue_registry().sets}
    assert hints[set_id(["gpu"])] == entry.position
