"""Artifacts and caches within runs: `needs` brings a job's artifacts, and no others."""

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import storages

from apps.jobs.models import Job
from apps.jobs.selectors.job_origin import default_scope, job_origin
from apps.jobs.services import job_create, run_retry, runs_advance
from apps.jobs.services.artifacts import artifact_complete, artifact_store, artifacts_fetch
from apps.jobs.services.uploads import ArchiveReport
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput
from controlplane.lib.presigned import Part
from tests.conftest import OPERATOR
from tests.jobs.archives import sha256
from tests.jobs.conftest import MakeAgent
from tests.jobs.runs import Worker, graph_pipeline

STEPS = "steps: [{run: make}]"
GRAPH = f"""
jobs:
  build: {{{STEPS}}}
  lint: {{{STEPS}}}
  test: {{needs: build, {STEPS}}}
"""


@pytest.fixture
def worker(make_agent: MakeAgent) -> Worker:
    graph_pipeline()
    return Worker(make_agent())


def attempt_of(worker: Worker, job: Job) -> dict[str, Any]:
    return {"agent": worker.agent, "job_id": str(job.job_id), "attempt": int(job.attempt)}


def stores(worker: Worker, job: Job, data: bytes) -> None:
    report = ArchiveReport(len(data), sha256(data), [Part(len(data), sha256(data))], "application/x-tar+gzip")
    attempt = attempt_of(worker, job)
    artifact, _ = artifact_store(
        **attempt, name="out", report=report, files=[], files_total=None, expire_in=3600, base="http://x/"
    )
    storage: Any = storages["artifacts"]
    storage.part_write(str(artifact.stored_name), 1, report.parts[0], io.BytesIO(data))
    artifact_complete(**attempt, artifact_id=artifact.artifact_id)


def taken(worker: Worker, job: Job, *nodes: str) -> dict[str, str]:
    found = artifacts_fetch(**attempt_of(worker, job), nodes=nodes)
    return {each.node: str(each.artifact.sha256) for each in found}


def run_until_test(worker: Worker, data: bytes) -> tuple[str, Job]:
    """A run whose jobs build and lint have stored an artifact and ended; its job test runs."""
    run_id = worker.run(GRAPH)
    for job in [*worker.take_all()]:
        stores(worker, job, data + str(job.node).encode())
        worker.finish(job)
    return run_id, worker.take()


def test_needs_brings_a_jobs_artifacts_and_those_of_no_other_job(worker: Worker) -> None:
    _, test = run_until_test(worker, b"first ")
    assert taken(worker, test, "build") == {"build": sha256(b"first build")}
    for name in ("lint", "test", "pipeline", "build "):
        with pytest.raises(InvalidInput):
            taken(worker, test, name)
    worker.finish(test)
    _, other = run_until_test(worker, b"second ")
    assert taken(worker, other, "build") == {"build": sha256(b"second build")}


def test_artifacts_come_from_a_job_that_is_needed_through_others(worker: Worker) -> None:
    text = f"""
jobs:
  build: {{{STEPS}}}
  other: {{{STEPS}}}
  mid: {{needs: build, {STEPS}}}
  use: {{needs: mid, artifacts: {{from: build}}, {STEPS}}}
"""
    worker.run(text)
    for job in [*worker.take_all()]:
        stores(worker, job, b"made by " + str(job.node).encode())
        worker.finish(job)
    worker.finish(worker.take())
    use = worker.take()
    assert (use.node, (use.definition or {})["take"]) == ("use", ["build"])
    assert taken(worker, use, "build") == {"build": sha256(b"made by build")}
    with pytest.raises(InvalidInput, match="must be a job that this one needs; other is none"):
        taken(worker, use, "other")


def test_after_a_retry_the_artifacts_of_the_newest_job_are_taken(worker: Worker) -> None:
    run_id, test = run_until_test(worker, b"first ")
    worker.finish(test, exit_code=1)
    run_retry(actor=OPERATOR, run_id=run_id, everything=True)
    for job in [*worker.take_all()]:
        stores(worker, job, b"again " + str(job.node).encode())
        worker.finish(job)
    assert taken(worker, worker.take(), "build") == {"build": sha256(b"again build")}


def test_the_jobs_of_a_run_share_the_scope_of_its_branch(worker: Worker) -> None:
    worker.run(GRAPH, git_ref="feature")
    jobs = [*worker.take_all()]
    assert {job_origin(job).scope for job in jobs} == {"branch:feature:"}
    assert default_scope(jobs[0]) == "branch:main:"


def test_a_job_that_was_reused_has_the_artifacts_of_the_earlier_one(worker: Worker) -> None:
    text = f"jobs: {{build: {{inputs: [src], {STEPS}}}, ship: {{needs: build, {STEPS}}}}}"

    def started() -> str:
        job_create(actor=OPERATOR, pipeline="graph")
        first = worker.take()
        worker.report(first, text)
        worker.report(first, text, trees={"src": "a" * 40}, answers_wants=True)
        worker.finish(first)
        return str(first.run_id)

    run_id = started()
    build = worker.take()
    stores(worker, build, b"built once")
    worker.finish(build)
    worker.finish(worker.take())
    with clock.shifted(timedelta(seconds=5)):
        runs_advance(seconds=60)
    assert started() != run_id
    ship = worker.take()
    assert ship.node == "ship"
    assert taken(worker, ship, "build") == {"build": sha256(b"built once")}
