"""Work that was done is not done again: a job with the same inputs takes the result of an earlier one."""

from datetime import timedelta
from typing import Any

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_create, job_retry, runs_advance
from apps.jobs.services.results import KEPT
from controlplane.lib import clock
from tests.conftest import OPERATOR
from tests.jobs.runs import Worker, states, status

TEXT = """
parameters: {level: {type: text, default: low}}
jobs:
  build: {inputs: [src, Makefile], outputs: [VERSION], steps: [{run: make}]}
  test: {needs: build, inputs: [tests], matrix: {axes: {n: ["1", "2"]}}, steps: [{run: "make test"}]}
  ship: {needs: test, environment: production, inputs: [src], steps: [{run: "make ship"}]}
"""
TREES = {"src": "a" * 40, "Makefile": "b" * 40, "tests": "c" * 40}


def started(worker: Worker, text: str = TEXT, *, trees: dict[str, str] = TREES, **members: Any) -> str:
    """Start a run of the file with these trees. Returns its id."""
    job_create(actor=OPERATOR, pipeline="graph", priority=100, **members)
    job = worker.take()
    assert worker.report(job, text) == {"wants": {"trees": ["Makefile", "src", "tests"]}}
    worker.report(job, text, trees=trees, answers_wants=True)
    worker.finish(job)
    return str(job.run_id)


def done(worker: Worker, run_id: str) -> None:
    """Run all jobs of the run to their ends, and let the sweep note their results."""
    while status(run_id) == "running":
        for job in [*worker.take_all()]:
            worker.finish(job, outputs={"VERSION": "7"} if job.node == "build" else None)
    with clock.shifted(timedelta(seconds=5)):
        runs_advance(seconds=60)


def test_a_job_with_the_same_inputs_takes_the_result_of_an_earlier_one_but_a_deployment_never(worker: Worker) -> None:
    first = started(worker)
    done(worker, first)
    second = started(worker)
    assert states(second) == {
        "build": "completed",
        "test (1)": "completed",
        "test (2)": "completed",
        "ship": "queued",
    }
    node = run_view(second).nodes["build"]
    job = Job.get(node.job_id)
    assert (job.reused_from, job.status, job.exit_code) == (run_view(first).nodes["build"].job_id, "completed", 0)
    assert (node.outputs, job.attempt, job.saved_seconds) == ({"VERSION": "7"}, 0, 0)


@pytest.mark.parametrize(
    ("changed", "reused"),
    [
        ({"trees": TREES | {"tests": "d" * 40}}, {"build"}),
        ({"trees": TREES | {"src": "d" * 40}}, set()),
        ({"text": TEXT.replace("make test", "make check")}, {"build"}),
        ({"parameters": {"level": "high"}}, set()),
        ({"env": {"A": "1"}}, set()),
        ({"reuse": False}, set()),
        ({"git_ref": "feature"}, {"build", "test (1)", "test (2)"}),
    ],
)
def test_all_that_a_job_depends_on_decides(worker: Worker, changed: dict[str, Any], reused: set[str]) -> None:
    done(worker, started(worker))
    run_id = started(worker, **changed)
    records = {name: Job.get(node.job_id) for name, node in run_view(run_id).nodes.items()}
    assert {name for name, job in records.items() if job.reused_from} == reused


def test_a_result_of_another_branch_is_not_taken(worker: Worker) -> None:
    done(worker, started(worker, git_ref="feature"))
    assert states(started(worker))["build"] == "queued"


def test_a_failed_job_leaves_no_result_and_a_job_that_is_run_again_takes_none(worker: Worker) -> None:
    failed = started(worker)
    worker.finish(worker.take(), exit_code=1)
    with clock.shifted(timedelta(seconds=5)):
        runs_advance(seconds=60)
    done(worker, run_id := started(worker))
    again = job_retry(actor=OPERATOR, job_id=run_view(run_id).nodes["build"].job_id)
    assert (again.status, again.reused_from) == ("queued", None)
    assert status(failed) == "failed"


def test_a_result_is_taken_for_thirty_days(worker: Worker) -> None:
    done(worker, started(worker))
    with clock.shifted(KEPT + timedelta(minutes=1)):
        assert states(started(worker))["build"] == "queued"
