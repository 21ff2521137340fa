"""Expanding a run: all of its jobs are there before one starts, and a report that is repeated goes on."""

from unittest.mock import patch

import pytest

from apps.jobs.models import Job, RunNode
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import attempt_expire, job_create
from apps.jobs.services.queue import MAX_SETS_OF_PIPELINE
from controlplane.lib.errors import Conflict, Unprocessable
from tests.conftest import OPERATOR
from tests.faults.injection import Fault, fault
from tests.jobs.runs import COMMIT, DIAMOND, STEPS, Worker, states, status


def test_the_jobs_of_a_graph_are_there_and_wait_before_the_first_starts(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    with patch("apps.jobs.services.file_reports.run_follow"):
        worker.report(job, DIAMOND)
    view = run_view(job.run_id)
    assert (view.run.jobs, view.run.commit, view.is_complete) == (5, COMMIT, True)
    assert set(states(job.run_id).values()) == {"waiting"}
    records = [Job.get(node.job_id) for name, node in view.nodes.items() if name != "pipeline"]
    assert {(record.status, record.commit, record.node) for record in records} == {
        ("waiting", COMMIT, name) for name in ("build", "lint", "test", "ship")
    }


def test_a_report_that_was_interrupted_goes_on_with_the_same_jobs(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    with (
        patch("apps.jobs.services.run_expansion._complete", side_effect=InterruptedError),
        pytest.raises(InterruptedError),
    ):
        worker.report(job, DIAMOND)
    assert not run_view(job.run_id).is_complete
    before = {node.part: node.job_id for node in RunNode.query(job.run_id, RunNode.part.startswith("job#"))}
    worker.report(job, DIAMOND)
    after = {f"job#{name}": node.job_id for name, node in run_view(job.run_id).nodes.items()}
    assert before.items() <= after.items()
    assert states(job.run_id)["build"] == "queued"


def test_the_first_graph_counts_also_when_the_first_job_is_run_by_another_agent(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    with (
        patch("apps.jobs.services.run_expansion.jobs_write", side_effect=InterruptedError),
        pytest.raises(InterruptedError),
    ):
        worker.report(job, DIAMOND)
    attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=1, heartbeat_at=None, reason="it is silent")
    again = worker.take()
    worker.report(again, f"jobs: {{other: {{{STEPS}}}}}")
    assert set(states(job.run_id)) == {"build", "lint", "test", "ship"}


def test_a_report_of_an_attempt_that_was_lost_meanwhile_writes_no_graph(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()

    def lose(*_: object, **__: object) -> None:
        attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=1, heartbeat_at=None, reason="it is silent")

    with patch("apps.jobs.services.run_expansion.works_write", side_effect=lose), pytest.raises(Conflict) as refused:
        worker.report(job, DIAMOND)
    assert refused.value.code == "stale_attempt"
    assert run_view(job.run_id).parts == []


def test_a_file_whose_jobs_ask_for_too_many_label_sets_is_refused(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    jobs = "".join(f"  j{n}: {{labels: [l{n}], {STEPS}}}\n" for n in range(MAX_SETS_OF_PIPELINE + 1))
    with pytest.raises(Unprocessable) as refused:
        worker.report(worker.take(), f"jobs:\n{jobs}")
    assert refused.value.code == "too_many_label_sets"


def test_a_lost_answer_while_jobs_are_written_writes_none_twice(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    with fault(Fault.LOST, call=4):
        worker.report(job, DIAMOND)
    worker.finish(job)
    for _ in range(3):
        worker.finish_named(job.run_id)
    assert status(job.run_id) == "completed"
