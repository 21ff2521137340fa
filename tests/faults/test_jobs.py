"""DynamoDB fails while something happens to jobs."""

from contextlib import suppress
from dataclasses import replace

import pytest

from apps.agents.models import Heartbeat
from apps.jobs.models import Job
from apps.jobs.reports.results import ReportKind
from apps.jobs.services import (
    AttemptResult,
    FileReport,
    attempt_define,
    attempt_finish,
    attempt_start,
    job_cancel,
    job_create,
    job_retry,
    leases_expire,
    log_append,
    logs_archive,
    queue_reconcile,
    report_add,
    runs_resume,
    sets_prune,
)
from apps.jobs.services.identity_tokens import attempt_token_issue
from apps.jobs.services.queue import entry_of
from apps.pipelines.services import pipeline_delete, pipeline_pause, pipeline_save
from controlplane.lib.errors import Conflict
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import DEFINITION, REPOSITORY, SUCCESS, Act, World

FAILURE = AttemptResult(exit_code=1, error_message=None, steps=[], log_chunks=1, commit=None)
IN_REPOSITORY = "retries: 1\nsteps:\n  - name: test\n    run: make test\n"
FOR_ANOTHER_MACHINE = f"labels: [gpu]\n{IN_REPOSITORY}"
PASSWORD = "a long enough password"


scenario = Scenarios(prepared_once=True)


# --- people and jobs ------------------------------------------------------------------------------------------------


@scenario()
def create_with_a_key(world: World) -> Act:
    return lambda: job_create(actor=ADMIN, pipeline="self", labels=["linux"], idempotency_key="once")


@scenario(repeatable=False)
def create_without_a_key(world: World) -> Act:
    # So that the set is in the registry; that one may be there without need is no harm.
    world.job()
    return lambda: job_create(actor=ADMIN, pipeline="self")


@scenario()
def retry_with_a_key(world: World) -> Act:
    job_id = world.ended()
    return lambda: job_retry(actor=ADMIN, job_id=job_id, idempotency_key="once")


@scenario()
def cancel_a_queued_job(world: World) -> Act:
    job_id = world.job()
    return lambda: job_cancel(actor=ADMIN, job_id=job_id)


@scenario()
def cancel_an_assigned_job(world: World) -> Act:
    job_id = world.assigned()
    return lambda: job_cancel(actor=ADMIN, job_id=job_id)


@scenario()
def cancel_a_running_job(world: World) -> Act:
    job_id = world.running()
    return lambda: job_cancel(actor=ADMIN, job_id=job_id)


@scenario()
def save_a_new_pipeline(world: World) -> Act:
    return lambda: pipeline_save(
        actor=ADMIN, name="new", repository=REPOSITORY, default_ref="main", definition=DEFINITION
    )


@scenario()
def save_a_pipeline_again(world: World) -> Act:
    return lambda: pipeline_save(
        actor=ADMIN, name="self", repository=REPOSITORY, default_ref="next", definition=DEFINITION
    )


@scenario("pipeline_not_found")
def delete_a_pipeline(world: World) -> Act:
    return lambda: pipeline_delete(actor=ADMIN, name="self")


@scenario()
def pause_a_pipeline(world: World) -> Act:
    return lambda: pipeline_pause(actor=ADMIN, name="self")


@scenario()
def resume_a_pipeline_whose_runs_wait(world: World) -> Act:
    pipeline_pause(actor=ADMIN, name="self")
    world.job()
    world.job()
    return lambda: runs_resume(actor=ADMIN, pipeline="self")


# --- agents and jobs ------------------------------------------------------------------------------------------------


@scenario()
def heartbeat_and_claim(world: World) -> Act:
    world.job(labels=["linux"])
    return lambda: world.heartbeat()


@scenario()
def heartbeat_and_claim_two(world: World) -> Act:
    world.job()
    world.job(labels=["linux"])
    return lambda: world.heartbeat(free=2)


@scenario()
def heartbeat_after_an_assignment_was_not_acknowledged(world: World) -> Act:
    world.assigned()
    world.wait(65)
    return lambda: world.heartbeat(free=0)


@scenario()
def heartbeat_after_a_restart_that_lost_a_job(world: World) -> Act:
    world.running()
    world.wait(50)
    return lambda: world.heartbeat(free=0)


@scenario()
def start(world: World) -> Act:
    job_id = world.assigned()
    return lambda: attempt_start(agent=world.agent, job_id=job_id, attempt=1)


def _define(world: World, job_id: str, text: str) -> Act:
    report = FileReport(commit="c0ffee", text=text)
    return lambda: attempt_define(agent=world.agent, agent_labels=["linux"], job_id=job_id, attempt=1, report=report)


@scenario()
def define(world: World) -> Act:
    return _define(world, world.running(pipeline="repo"), IN_REPOSITORY)


@scenario("job_moved", "stale_attempt")
def define_for_another_machine(world: World) -> Act:
    return _define(world, world.running(pipeline="repo"), FOR_ANOTHER_MACHINE)


@scenario("job_moved", "stale_attempt")
def define_a_cancelled_job_for_another_machine(world: World) -> Act:
    job_id = world.running(pipeline="repo")
    job_cancel(actor=ADMIN, job_id=job_id)
    return _define(world, job_id, FOR_ANOTHER_MACHINE)


@scenario()
def print_(world: World) -> Act:
    job_id = world.running()
    return lambda: log_append(agent_id=world.agent.id, job_id=job_id, attempt=1, sequence=1, data=b"more\n")


def _report(world: World, job_id: str, kind: ReportKind, data: bytes) -> Act:
    return lambda: report_add(
        agent_id=world.agent.id, job_id=job_id, attempt=1, number=0, kind=kind, file="a.xml", commit=None, data=data
    )


@scenario()
def report_tests(world: World) -> Act:
    return _report(world, world.running(), ReportKind.JUNIT, b'<testsuite><testcase name="a"/></testsuite>')


@scenario()
def report_coverage_again(world: World) -> Act:
    act = _report(world, world.running(), ReportKind.COBERTURA, b'<coverage line-rate="0.5"/>')
    act()
    return act


def _token(world: World, job_id: str) -> str:
    issuer = "https://ci.example.com"
    return attempt_token_issue(agent=world.agent, targets=[], job_id=job_id, attempt=1, audience="aws", issuer=issuer)


@scenario(repeatable=False)
def get_an_identity_token(world: World) -> Act:
    job_id = world.running()
    return lambda: _token(world, job_id)


@scenario()
def be_refused_an_identity_token(world: World) -> Act:
    job_id = world.ended()

    def ask() -> None:
        with suppress(Conflict):
            _token(world, job_id)

    return ask


@scenario()
def finish(world: World) -> Act:
    job_id = world.running()
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=1, result=SUCCESS)


@scenario()
def finish_after_a_cancel_request(world: World) -> Act:
    job_id = world.running()
    job_cancel(actor=ADMIN, job_id=job_id)
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=1, result=FAILURE)


@scenario()
def finish_an_attempt_that_was_lost(world: World) -> Act:
    job_id = world.running()
    world.wait_while_others_poll(50)
    leases_expire()
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=1, result=SUCCESS)


@scenario()
def finish_a_job_that_failed_with_a_loss(world: World) -> Act:
    job_id = world.running()
    for attempt in (1, 2):
        world.wait_while_others_poll(50)
        leases_expire()
        if attempt == 1:
            world.heartbeat()
            attempt_start(agent=world.agent, job_id=job_id, attempt=2)
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=2, result=SUCCESS)


@scenario()
def go_on_with_an_attempt_that_was_lost(world: World) -> Act:
    job_id = world.running()
    world.wait_while_others_poll(50)
    leases_expire()
    return lambda: world.heartbeat(running={job_id: 1})


@scenario()
def report_a_failure_of_the_machine(world: World) -> Act:
    job_id = world.running()
    broken = replace(FAILURE, agent_fault="The disk is full.")
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=1, result=broken)


# --- the sweep ------------------------------------------------------------------------------------------------------


@scenario()
def expire_leases(world: World) -> Act:
    world.running()
    world.job()
    world.heartbeat()
    world.wait_while_others_poll(50)
    return leases_expire


@scenario()
def expire_a_lease_for_the_last_time(world: World) -> Act:
    job_id = world.running()
    world.wait_while_others_poll(50)
    leases_expire()
    world.heartbeat()
    attempt_start(agent=world.agent, job_id=job_id, attempt=2)
    world.wait_while_others_poll(50)
    return leases_expire


@scenario()
def store_logs(world: World) -> Act:
    world.ended()
    world.ended()
    return logs_archive


@scenario()
def mark_an_empty_set(world: World) -> Act:
    world.assigned()
    return sets_prune


@scenario()
def prune_an_empty_set(world: World) -> Act:
    world.assigned()
    sets_prune()
    world.wait(65)
    return sets_prune


def _leave_over_an_entry(world: World) -> None:
    """An entry for the first attempt of a job that has ended."""
    job = Job.find(world.ended())
    entry_of(job, attempt=1).save()


@scenario()
def heartbeat_and_claim_behind_an_entry_that_is_left_over(world: World) -> Act:
    _leave_over_an_entry(world)
    world.job()
    # With a free slot left, the next heartbeat deletes the entry if a conflict has kept this one from that.
    return lambda: world.heartbeat(free=2)


@scenario()
def heal_an_entry_that_is_left_over(world: World) -> Act:
    _leave_over_an_entry(world)
    return lambda: queue_reconcile(seconds=5)


@scenario()
def heal_a_job_without_its_entry(world: World) -> Act:
    job = Job.find(world.job())
    entry_of(job, attempt=1).delete()
    return lambda: queue_reconcile(seconds=5)


@scenario()
def heal_a_job_without_its_lease(world: World) -> Act:
    job_id = world.running()
    Heartbeat(world.agent.id).update(actions=[Heartbeat.lease_map[job_id].remove()])
    return lambda: queue_reconcile(seconds=5)


@scenario()
def cancel_a_job_without_its_entry(world: World) -> Act:
    job = Job.find(world.job())
    entry_of(job, attempt=1).delete()
    return lambda: job_cancel(actor=ADMIN, job_id=job.job_id)


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
