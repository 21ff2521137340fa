"""Paused pipelines: what waits for their resume, what goes on, and what both say."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.jobs.models import QueueEntry
from apps.jobs.selectors import job_get, job_waits, run_get
from apps.jobs.services import job_create, job_retry, pauses, queue_reconcile, runs_resume
from apps.jobs.states import Status
from apps.pipelines.selectors import pipeline_get
from apps.pipelines.services import pipeline_delete, pipeline_pause, pipeline_resume
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.metering import dynamodb_calls
from tests.pipelines.pipelines import recorded
from tests.signing import AgentClient

MakeJob = Callable[..., str]


def statuses(*jobs: str) -> list[str]:
    return [job_get(job_id).status for job_id in jobs]


def test_a_run_of_a_paused_pipeline_waits_says_who_paused_it_and_goes_on_after_the_resume(
    operator: Client, viewer: Client, make_job: MakeJob, agent: AgentClient
) -> None:
    paused = operator.post("/pipelines/self/pause").json()
    assert paused["paused_at"]
    with clock.shifted(timedelta(minutes=3)):
        job_id = make_job()
        assert agent.heartbeat()["jobs"] == []
        waiting = viewer.get(f"/jobs/{job_id}").json()["waiting"]
        of_run = viewer.get(f"/runs/{job_get(job_id).run_id}").json()["jobs"][0]["waiting"]
        assert waiting["code"] == of_run["code"] == "paused_pipeline"
        assert f"{paused['paused_by']} paused the pipeline self 3 min ago: resume it" in waiting["message"]
        resumed = operator.post("/pipelines/self/resume").json()
        assert (resumed["paused_at"], resumed["paused_by"]) == (None, None)
        assert agent.take()["job_id"] == job_id


def test_what_a_paused_run_waits_for_costs_one_read(viewer: Client, make_job: MakeJob) -> None:
    pipeline_pause(actor=ADMIN, name="self")
    job_id = make_job()
    with dynamodb_calls() as metering:
        assert pauses_wait(job_id) == "paused_pipeline"
    assert metering.operations == ["GetItem", "GetItem"], "the job itself, and its pipeline"


def pauses_wait(job_id: str) -> str:
    waiting = job_waits(job_get(job_id))
    return waiting.code if waiting else ""


def test_runs_that_were_started_before_the_pause_go_on(make_job: MakeJob, agent: AgentClient) -> None:
    queued = make_job()
    pipeline_pause(actor=ADMIN, name="self")
    assert agent.take()["job_id"] == queued


def test_pausing_and_resuming_again_changes_nothing(make_job: MakeJob, operator_actor: Actor) -> None:
    first = pipeline_pause(actor=operator_actor, name="self")
    assert pipeline_pause(actor=ADMIN, name="self").paused_by == first.paused_by == operator_actor.name
    for _ in range(2):
        assert runs_resume(actor=ADMIN, pipeline="self").paused_at is None
    actions = [action for _, action, _ in recorded()]
    assert [actions.count(action) for action in ("pipeline.paused", "pipeline.resumed")] == [1, 1]


def test_only_who_may_save_pipelines_pauses_and_resumes_them(viewer: Client, operator: Client, pipeline: str) -> None:
    for name in ("pause", "resume"):
        assert viewer.post(f"/pipelines/self/{name}").status_code == 403
        problem(operator.post(f"/pipelines/nothing/{name}"), 404, "pipeline_not_found")
    assert pipeline_get("self").paused_at is None


def test_the_sweep_queues_what_the_resume_has_left(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_AT_ONCE", 1)
    pipeline_pause(actor=ADMIN, name="self")
    jobs = make_job(), make_job(), make_job()
    queue_reconcile(seconds=2)
    assert statuses(*jobs) == ["waiting", "waiting", "waiting"]
    runs_resume(actor=ADMIN, pipeline="self")
    assert statuses(*jobs) == ["queued", "waiting", "waiting"]
    queue_reconcile(seconds=2)
    assert statuses(*jobs) == ["queued", "queued", "queued"]
    assert len(list(QueueEntry.scan(QueueEntry.attempt.exists()))) == 3


@pytest.mark.parametrize("end", [pipeline_resume, pipeline_delete])
def test_a_job_that_missed_the_end_of_the_pause_is_queued_by_the_sweep(
    make_job: MakeJob, end: Callable[..., object]
) -> None:
    pipeline_pause(actor=ADMIN, name="self")
    job_id = make_job()
    end(actor=ADMIN, name="self")
    assert pauses_wait(job_id) == "being_queued"
    queue_reconcile(seconds=2)
    assert statuses(job_id) == ["queued"]


def test_a_job_that_waits_for_a_pause_is_cancelled_and_stays_so(
    operator: Client, make_job: MakeJob, operator_actor: Actor
) -> None:
    pipeline_pause(actor=ADMIN, name="self")
    job_id, other = make_job(), make_job()
    assert operator.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert run_get(job_get(job_id).run_id).status == "cancelled"
    runs_resume(actor=ADMIN, pipeline="self")
    assert statuses(job_id, other) == ["cancelled", "queued"]


def test_a_run_that_is_run_again_waits_for_the_pause_too(
    make_job: MakeJob, agent: AgentClient, operator_actor: Actor
) -> None:
    job_id = make_job()
    agent.finish(agent.take(), exit_code=1)
    pipeline_pause(actor=ADMIN, name="self")
    again = job_retry(actor=operator_actor, job_id=job_id)
    assert again.status == Status.WAITING
    runs_resume(actor=ADMIN, pipeline="self")
    queue_reconcile(seconds=2)
    assert statuses(again.job_id) == ["queued"]


def test_a_new_run_of_a_paused_pipeline_costs_no_call_more(pipeline: str, operator_actor: Actor) -> None:
    job_create(actor=operator_actor)
    pipeline_pause(actor=ADMIN, name="self")
    with dynamodb_calls() as metering:
        job_create(actor=operator_actor)
    assert metering.operations == ["GetItem", "TransactWriteItems"]
