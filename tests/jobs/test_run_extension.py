"""A job adds jobs to its own run while it runs."""

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_create, run_extend
from apps.jobs.services.run_extension import MAX_DEPTH
from controlplane.lib.errors import Conflict, Unprocessable
from tests.conftest import OPERATOR
from tests.jobs.runs import DIAMOND, STEPS, Worker, states, status

ADDED = f"jobs: {{unit: {{needs: build, {STEPS}}}, api: {{needs: [unit, ship], {STEPS}}}}}"


def upload(worker: Worker, job: Job, text: str = ADDED) -> list[str]:
    return run_extend(agent=worker.agent, job_id=job.job_id, attempt=int(job.attempt), text=text)


def test_a_job_adds_jobs_to_its_run_while_it_runs(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish(worker.take())
    lint = worker.take()
    assert upload(worker, lint) == ["unit", "api"]
    assert (states(run_id)["unit"], states(run_id)["api"]) == ("queued", "waiting")
    worker.finish(lint)
    for _ in range(3):
        worker.finish_named(run_id)
    assert (set(states(run_id).values()), status(run_id), run_view(run_id).run.jobs) == ({"completed"}, "completed", 7)


def test_the_same_upload_again_changes_nothing_and_another_needs_other_names(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    job = worker.take()
    assert upload(worker, job) == upload(worker, job)
    before = states(run_id)
    with pytest.raises(Unprocessable) as refused:
        upload(worker, job, ADDED.replace("api", "more"))
    assert refused.value.code == "definition_invalid"
    with pytest.raises(Unprocessable):
        upload(worker, job, STEPS)
    assert states(run_id) == before
    worker.finish(job)
    with pytest.raises(Conflict) as refused_later:
        upload(worker, job)
    assert refused_later.value.code == "stale_attempt"


def test_uploaded_jobs_take_artifacts_only_of_jobs_that_they_need_also_through_those_of_the_run(worker: Worker) -> None:
    worker.run(DIAMOND)
    job = worker.take()
    assert upload(worker, job, f"jobs: {{a: {{needs: ship, artifacts: {{from: build}}, {STEPS}}}}}") == ["a"]
    for needs in ("", "needs: lint, "):
        with pytest.raises(Unprocessable) as refused:
            upload(worker, job, f"jobs:\n  b: {{{needs}artifacts: {{from: test}}, {STEPS}}}")
        (error,) = refused.value.errors
        assert (error["field"], error["line"]) == ("jobs.b.artifacts.from", 2)
        assert error["message"] == "must be a job that this one needs; add 'test' to its `needs`"


def test_uploads_have_a_limit_on_their_depth(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{j0: {{{STEPS}}}}}")
    for depth in range(MAX_DEPTH):
        job = worker.take()
        assert upload(worker, job, f"jobs: {{j{depth + 1}: {{{STEPS}}}}}") == [f"j{depth + 1}"]
        worker.finish(job)
    with pytest.raises(Unprocessable, match="levels deep"):
        upload(worker, worker.take(), f"jobs: {{last: {{{STEPS}}}}}")
    assert len(states(run_id)) == MAX_DEPTH + 1


def test_the_only_job_of_a_run_may_make_a_graph_of_it(worker: Worker) -> None:
    job_create(actor=OPERATOR, pipeline="graph")
    job = worker.take()
    worker.report(job, STEPS)
    assert upload(worker, job, f"jobs: {{unit: {{{STEPS}}}}}") == ["unit"]
    worker.finish(job)
    assert (states(job.run_id), status(job.run_id)) == ({"unit": "queued"}, "running")
    worker.finish(worker.take())
    assert status(job.run_id) == "completed"
