"""Runs of schedules that build only if something has changed."""

from datetime import timedelta
from typing import Any

import pytest

from apps.jobs.models import RUN, Job, Run
from apps.jobs.selectors import runs_recent
from apps.jobs.selectors.runs import run_get
from apps.jobs.services import (
    AttemptResult,
    FileReport,
    JobPlace,
    attempt_define,
    attempt_expire,
    attempt_finish,
    job_cancel,
    job_create,
    job_retry,
    runs_advance,
    schedules_start,
)
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.queue import entry_of
from apps.pipelines.services import pipeline_save, schedule_change
from controlplane.lib import clock
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.runs import DIAMOND, Worker, status
from tests.pipelines.schedules import scheduled
from tests.properties.consistency import Everything

FIRST, SECOND = "a" * 40, "b" * 40
STEPS = "steps: [{run: make}]"
ID = "graph.nightly"


class Nights:
    """A schedule of the pipeline `graph`, whose runs an agent runs, one each night."""

    def __init__(self, worker: Worker, **members: Any) -> None:
        self.worker, self.night = worker, 0
        scheduled("graph", only_if_changed=True, **members)

    def begin(self) -> Job:
        """The first job of the next night's run, which the agent has started."""
        self.night += 1
        with clock.shifted(timedelta(days=self.night)):
            assert schedules_start(seconds=60) == 1
            return self.take()

    def take(self) -> Job:
        """The first job of the newest run."""
        with clock.shifted(timedelta(days=self.night)):
            job = Job.get(runs_recent("graph", limit=1)[0].job_id)
            _entry_claim(entry_of(job, attempt=int(job.attempt) + 1), agent=self.worker.agent, slots=4)
            return self.worker.start(job.job_id)

    def read(self, job: Job, commit: str, text: str = STEPS) -> str:
        """What the agent is to run when it has read the file: the commands, or the name of the step for nothing."""
        report = FileReport(commit=commit, text=text)
        found = attempt_define(
            agent=self.worker.agent, agent_labels=[], job_id=job.job_id, attempt=int(job.attempt), report=report
        )
        step = found["steps"][0]
        return str(step["name"] if step["name"] == "nothing has changed" else step["run"])

    def end(self, job: Job, commit: str, *, exit_code: int = 0) -> Run:
        place = JobPlace(str(job.run_id), str(Job.get(job.job_id).node), None)
        result = AttemptResult(
            exit_code=exit_code, error_message=None, steps=[], log_chunks=0, commit=commit, place=place
        )
        attempt_finish(agent=self.worker.agent, job_id=job.job_id, attempt=int(job.attempt), result=result)
        return run_get(str(job.run_id))

    def pass_with(self, commit: str, text: str = STEPS, *, exit_code: int = 0) -> tuple[str, Run]:
        """A whole night: what the agent ran, and the run."""
        job = self.begin()
        ran = self.read(job, commit, text)
        return ran, self.end(job, commit, exit_code=exit_code)


@pytest.fixture
def nights(worker: Worker) -> Nights:
    return Nights(worker)


def test_a_run_of_a_schedule_builds_only_if_its_ref_has_another_commit(nights: Nights) -> None:
    ran, first = nights.pass_with(FIRST)
    assert (ran, first.unchanged_since) == ("make", None)
    ran, second = nights.pass_with(FIRST)
    assert (ran, second.unchanged_since, second.status, second.commit) == (
        "nothing has changed",
        first.run_id,
        "completed",
        FIRST,
    )
    # It names the run that was built, also after several nights.
    assert nights.pass_with(FIRST)[1].unchanged_since == first.run_id
    ran, fourth = nights.pass_with(SECOND)
    assert (ran, fourth.unchanged_since) == ("make", None)
    # What was built before the last one does not count.
    assert nights.pass_with(FIRST)[0] == "make"
    assert Everything.read().inconsistencies() == []


def test_a_failed_run_counts_and_a_cancelled_one_does_not(nights: Nights) -> None:
    nights.pass_with(FIRST, exit_code=1)
    assert nights.pass_with(FIRST)[0] == "nothing has changed"
    job = nights.begin()
    assert nights.read(job, SECOND) == "make"
    job_cancel(actor=OPERATOR, job_id=job.job_id)
    assert nights.end(job, SECOND, exit_code=1).status == "cancelled"
    assert nights.pass_with(SECOND)[0] == "make"


def test_other_parameters_another_ref_or_another_definition_are_a_change(nights: Nights) -> None:
    nights.pass_with(FIRST)
    for members in ({"parameters": {"target": "all"}}, {"git_ref": "release"}):
        schedule_change(actor=OPERATOR, schedule_id=ID, **members)
        assert nights.pass_with(FIRST)[0] == "make"
    pipeline_save(
        actor=ADMIN, name="graph", repository="https://git.example.com/graph.git", default_ref="next", definition=None
    )
    assert nights.pass_with(FIRST)[0] == "make"


def test_a_graph_is_not_expanded_if_nothing_has_changed(nights: Nights) -> None:
    job = nights.begin()
    assert "4 more jobs" in nights.read(job, FIRST, DIAMOND)
    nights.end(job, FIRST)
    while [*nights.worker.take_all()]:
        pass
    # While its jobs run, the run is not finished, so the next one builds.
    job = nights.begin()
    assert "4 more jobs" in nights.read(job, FIRST, DIAMOND)


def test_the_end_of_a_graph_counts_as_the_end_of_its_run(nights: Nights) -> None:
    job = nights.begin()
    nights.read(job, FIRST, DIAMOND)
    run = nights.end(job, FIRST)
    for _ in range(3):
        nights.worker.finish_named(run.run_id)
    with clock.shifted(timedelta(seconds=5)):
        runs_advance(seconds=60)
    assert status(run.run_id) == "completed"
    ran, second = nights.pass_with(FIRST, DIAMOND)
    assert (ran, second.jobs, second.unchanged_since) == ("nothing has changed", None, run.run_id)


def test_steps_on_the_server_wait_for_the_commit_too(worker: Worker) -> None:
    pipeline_save(
        actor=ADMIN, name="graph", repository="https://git.example.com/graph.git", default_ref="main", definition=STEPS
    )
    nights = Nights(worker)
    assert nights.pass_with(FIRST)[0] == "make"
    assert nights.pass_with(FIRST)[0] == "nothing has changed"


def test_a_user_who_runs_it_again_gets_a_build(nights: Nights) -> None:
    nights.pass_with(FIRST)
    job = nights.begin()
    nights.read(job, FIRST)
    nights.end(job, FIRST)
    job_retry(actor=OPERATOR, job_id=job.job_id)
    again = nights.take()
    assert nights.read(again, FIRST) == "make"
    assert nights.end(again, FIRST).unchanged_since is None


def test_an_attempt_after_a_lost_one_does_what_that_one_did(nights: Nights) -> None:
    nights.pass_with(FIRST)
    slow = nights.begin()
    assert nights.read(slow, SECOND) == "make"
    # Meanwhile the next night's run builds the same and ends.
    assert nights.pass_with(SECOND)[0] == "make"
    assert attempt_expire(
        agent_id=nights.worker.agent.id, job_id=slow.job_id, attempt=1, heartbeat_at=None, reason="silence"
    )
    job = Job.get(slow.job_id)
    _entry_claim(entry_of(job, attempt=2), agent=nights.worker.agent, slots=4)
    assert nights.read(nights.worker.start(job.job_id), SECOND) == "make"


def test_other_runs_and_schedules_build_always(nights: Nights, worker: Worker) -> None:
    nights.pass_with(FIRST)
    created = job_create(actor=OPERATOR, pipeline="graph")
    _entry_claim(entry_of(created, attempt=1), agent=worker.agent, slots=4)
    job = worker.start(created.job_id)
    assert nights.read(job, FIRST) == "make"
    nights.end(job, FIRST)
    schedule_change(actor=OPERATOR, schedule_id=ID, only_if_changed=False)
    assert nights.pass_with(FIRST)[0] == "make"
    assert Run.get(run_get(str(job.run_id)).run_id, RUN).schedule_id is None
