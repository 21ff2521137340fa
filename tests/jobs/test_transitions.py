"""Every move of a job takes its queue entry, lease, counters and audit event along, or changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from apps.agents.models import Heartbeat
from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.jobs.models import DayCounter, Job, QueueEntry
from apps.jobs.services.jobs import job_create
from apps.jobs.services.queue import entry_of
from apps.jobs.services.transitions import Move, cancel_request_commit, move_commit
from apps.jobs.states import FINAL, LEASED, Status, may_follow
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import TransactionFailed
from tests.jobs.conftest import MakeAgent
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything, Items

BEFORE = (Status.QUEUED, Status.ASSIGNED, Status.RUNNING)
ALLOWED = [(before, after) for before in BEFORE for after in Status if may_follow(before, after)]
REFUSED = [(before, after) for before in BEFORE for after in Status if not may_follow(before, after)]

ACTIONS = {
    Status.ASSIGNED: Action.JOB_CLAIMED,
    Status.RUNNING: Action.JOB_STARTED,
    Status.QUEUED: Action.JOB_REQUEUED,
    Status.CANCELLED: Action.JOB_CANCELLED,
}


def ids(moves: list[tuple[Status, Status]]) -> list[str]:
    return [f"{before}-{after}" for before, after in moves]


def move_from(job_id: str, after: Status, agent: Actor) -> Move:
    """The move that takes the job from where it is to `after`."""
    job = Job.find(job_id)
    assert job is not None
    attempt = int(job.attempt)
    return Move(
        job=job,
        before=Status(job.status),
        after=after,
        attempt=attempt,
        actor=agent,
        action=ACTIONS.get(after, Action.JOB_FINISHED),
        agent_id=agent.id,
        entry=entry_of(job, attempt=attempt + 1),
    )


def stored() -> list[list[dict[str, Any]]]:
    """All that a move may change, as it is in the database."""
    items = Items()
    return [list(items.of(kind)) for kind in (Job, QueueEntry, Heartbeat, DayCounter, AuditRecord)]


@pytest.fixture
def agent(make_agent: MakeAgent) -> Actor:
    return make_agent()


@pytest.fixture
def job_in(make_job: Callable[..., str], agent: Actor) -> Callable[[Status], str]:
    """Makes a job that has this status, the later ones with a lease of the agent."""

    def make(status: Status) -> str:
        job_id = make_job()
        for after in BEFORE[1 : BEFORE.index(status) + 1]:
            move_commit(move_from(job_id, after, agent))
        return job_id

    return make


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_move_leaves_all_records_in_agreement(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    job_id = job_in(before)
    move_commit(move_from(job_id, after, agent))
    everything = Everything.read()
    assert everything.jobs[job_id].status == after
    assert everything.inconsistencies() == []


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_move_costs_one_call_and_ten_write_units_at_most_and_a_read_if_the_job_waits_again(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    with dynamodb_calls() as metering:
        move_commit(move)
    assert metering.operations == ["TransactWriteItems", *(["GetItem"] if after == Status.QUEUED else [])]
    assert metering.write_units <= 10


@pytest.mark.parametrize(("before", "after"), REFUSED, ids=ids(REFUSED))
def test_a_move_that_the_states_do_not_allow_is_refused_without_a_call(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    with dynamodb_calls() as metering, pytest.raises(Conflict) as refusal:
        move_commit(move)
    assert refusal.value.code == "job_state"
    assert metering.calls == 0


@pytest.mark.parametrize("end", sorted(FINAL))
def test_an_ended_job_moves_no_more(job_in: Callable[[Status], str], agent: Actor, end: Status) -> None:
    job_id = job_in(Status.RUNNING)
    move_commit(move_from(job_id, end, agent))
    for after in Status:
        with pytest.raises(Conflict) as refusal:
            move_commit(move_from(job_id, after, agent))
        assert refusal.value.code == "job_finished"


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_move_of_another_attempt_changes_nothing(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    found = stored()
    with pytest.raises(TransactionFailed):
        move_commit(replace(move, attempt=move.attempt + 1))
    assert stored() == found


@pytest.mark.parametrize("after", [after for before, after in ALLOWED if before == Status.RUNNING])
def test_a_move_for_an_agent_without_the_lease_changes_nothing(
    job_in: Callable[[Status], str], agent: Actor, make_agent: MakeAgent, after: Status
) -> None:
    move = replace(move_from(job_in(Status.RUNNING), after, agent), agent_id=make_agent().id)
    found = stored()
    with pytest.raises(TransactionFailed):
        move_commit(move)
    assert stored() == found


@pytest.mark.parametrize("after", [after for before, after in ALLOWED if before in LEASED and after not in LEASED])
def test_a_cancel_request_that_the_caller_has_not_seen_stops_the_move(
    job_in: Callable[[Status], str], agent: Actor, operator_actor: Actor, after: Status
) -> None:
    job_id = job_in(Status.RUNNING)
    move = move_from(job_id, after, agent)
    cancel_request_commit(job=move.job, actor=operator_actor)
    with pytest.raises(TransactionFailed):
        move_commit(move)
    move_commit(replace(move_from(job_id, after, agent), cancel_requested=True))


def test_a_cancel_request_is_for_running_jobs_only(
    job_in: Callable[[Status], str], agent: Actor, operator_actor: Actor
) -> None:
    move = move_from(job_in(Status.ASSIGNED), Status.RUNNING, agent)
    with pytest.raises(TransactionFailed):
        cancel_request_commit(job=move.job, actor=operator_actor)


def test_a_new_job_is_counted_and_waits_in_the_queue(pipeline: str, operator_actor: Actor) -> None:
    job = job_create(actor=operator_actor)
    everything = Everything.read()
    assert everything.jobs[job.job_id].status == Status.QUEUED
    assert everything.inconsistencies() == []
