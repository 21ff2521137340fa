"""DynamoDB fails while schedules are made, changed and paused, and while they start runs."""

from functools import partial

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors import runs_recent
from apps.jobs.selectors.runs import run_get
from apps.jobs.services import FileReport, attempt_define
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.queue import entry_of
from apps.jobs.services.schedule_starts import schedule_start
from apps.pipelines.services import (
    pipeline_pause,
    schedule_change,
    schedule_create,
    schedule_delete,
    schedule_pause,
    schedule_resume,
)
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World
from tests.jobs.runs import COMMIT, Worker

ID = "repo.nightly"
DAY = 24 * 3600

scenario = Scenarios(prepared_once=True)


def _made() -> None:
    schedule_create(actor=ADMIN, pipeline="repo", name="nightly", cron="H 3 * * *", only_if_changed=True)


def _paused() -> None:
    _made()
    schedule_pause(actor=ADMIN, schedule_id=ID)


def _started(world: World) -> tuple[Worker, Job]:
    """The first job of a run that the schedule starts, which an agent has begun."""
    world.wait(DAY)
    assert schedule_start(ID)
    worker = Worker(world.agent)
    job = Job.get(runs_recent("repo", limit=1)[0].job_id)
    _entry_claim(entry_of(job, attempt=1), agent=world.agent, slots=2)
    return worker, worker.start(job.job_id)


@scenario("name_taken")
def create_a_schedule(_: World) -> Act:
    return _made


@scenario()
def change_a_schedule(_: World) -> Act:
    _made()
    return partial(schedule_change, actor=ADMIN, schedule_id=ID, cron="0 4 * * *", git_ref="release")


@scenario()
def pause_a_schedule(_: World) -> Act:
    _made()
    return partial(schedule_pause, actor=ADMIN, schedule_id=ID)


@scenario()
def resume_a_schedule(_: World) -> Act:
    _paused()
    return partial(schedule_resume, actor=ADMIN, schedule_id=ID)


@scenario("schedule_not_found")
def delete_a_schedule(_: World) -> Act:
    _made()
    return partial(schedule_delete, actor=ADMIN, schedule_id=ID)


@scenario()
def start_a_run(world: World) -> Act:
    _made()
    world.wait(DAY)
    return partial(schedule_start, ID)


@scenario()
def start_none_of_a_paused_pipeline(world: World) -> Act:
    _made()
    pipeline_pause(actor=ADMIN, name="repo")
    world.wait(DAY)
    return partial(schedule_start, ID)


@scenario("stale_attempt")
def end_a_run_that_has_nothing_to_build(world: World) -> Act:
    _made()
    worker, job = _started(world)
    worker.report(job, "steps: [{run: make}]")
    worker.finish(job)
    worker, job = _started(world)
    report = FileReport(commit=COMMIT, text="steps: [{run: make}]")

    def act() -> None:
        attempt_define(agent=world.agent, agent_labels=[], job_id=job.job_id, attempt=1, report=report)
        assert run_get(job.run_id).unchanged_since

    return act


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
