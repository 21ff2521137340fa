"""Every move of a job takes its queue entry, lease, counters and audit event along, or changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.models import Heartbeat
from apps.agents.services import End, LeaseEnd
from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.jobs.label_sets import set_id
from apps.jobs.models import EMPTY, SETS, DayCounter, Job, QueueEntry, QueueSet
from apps.jobs.models.job import created_day
from apps.jobs.services.jobs import job_create
from apps.jobs.services.queue import entry_of
from apps.jobs.services.transitions import Move, cancel_request_commit, move_commit
from apps.jobs.states import FINAL, LEASED, Status, may_follow
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict
from controlplane.lib.ids import new_id
from controlplane.lib.work import Work, at_work
from controlplane.nosql.transaction import Transaction, TransactionConflicted, TransactionFailed
from tests.faults.injection import Fault, fault
from tests.jobs.conftest import MakeAgent, changes, event_of, stored_job, stored_lease
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything, Items

BEFORE = (Status.QUEUED, Status.ASSIGNED, Status.RUNNING)
ALLOWED = [(before, after) for before in BEFORE for after in Status if may_follow(before, after)]
REFUSED = [(before, after) for before in BEFORE for after in Status if not may_follow(before, after)]

ACTIONS = {
    Status.ASSIGNED: Action.JOB_CLAIMED,
    Status.RUNNING: Action.JOB_STARTED,
    Status.QUEUED: Action.JOB_REQUEUED,
    Status.WAITING: Action.JOB_REQUEUED,
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


@pytest.mark.parametrize("end", sorted(FINAL - {Status.SKIPPED}))
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


@pytest.mark.parametrize(
    "after", [after for before, after in ALLOWED if before in LEASED and after not in LEASED | {Status.WAITING}]
)
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


# --- what a move changes --------------------------------------------------------------------------------------------

MOMENT = "2026-11-21T09:00:00.000000Z"


def refused(move: Move) -> set[str]:
    """Which operations refuse the move, which must then change nothing."""
    found = stored()
    with pytest.raises(TransactionFailed) as refusal:
        move_commit(move)
    assert stored() == found
    return set(refusal.value.failed)


def lost(job_id: str, agent: Actor, after: Status = Status.QUEUED) -> None:
    """The agent loses its attempt of the job, as `apps.jobs.services.losses` would write it."""
    marks = [Job.lost_agent_id.set(agent.id), Job.lost_started_at.set(MOMENT), Job.lost_attempts.set(1)]
    move_commit(replace(move_from(job_id, after, agent), changes=marks))


def late(job_id: str, after: Status, agent: Actor) -> Move:
    """The move that a late report of the lost attempt brings."""
    return replace(move_from(job_id, after, agent), is_late=True)


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_move_changes_these_attributes_of_the_job_and_no_others(
    job_in: Callable[[Status], str], agent: Actor, now: str, before: Status, after: Status
) -> None:
    job_id = job_in(before)
    marks = [Job.lost_agent_id.set("x"), Job.lost_started_at.set("x")] if before == Status.QUEUED else []
    Job(job_id).update(actions=[Job.exit_code.set(1), *marks])
    found = stored_job(job_id)
    with clock.shifted(timedelta(seconds=1)):
        later = clock.timestamp(clock.now())
        move_commit(move_from(job_id, after, agent))
    expected: dict[str, Any] = {"status": after}
    if after == Status.ASSIGNED:
        expected |= {"attempt": 1, "agent_id": agent.id, "assigned_at": later}
        expected |= {"lost_agent_id": None, "lost_started_at": None}
    elif after == Status.RUNNING:
        expected |= {"started_at": later, "started_by": agent.id, "agent_name": agent.name}
    elif after in (Status.QUEUED, Status.WAITING):
        expected |= dict.fromkeys(("agent_id", "assigned_at"))
        if before == Status.RUNNING:
            expected |= dict.fromkeys(("started_at", "started_by", "agent_name"))
    else:
        expected |= {"outcome": f"{after}#{created_day(job_id)}", "completed_at": later}
    assert changes(found, stored_job(job_id)) == expected


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_move_gives_its_agent_the_lease_that_belongs_to_it(
    job_in: Callable[[Status], str], agent: Actor, now: str, before: Status, after: Status
) -> None:
    job_id = job_in(before)
    with clock.shifted(timedelta(seconds=1)):
        at = clock.timestamp(clock.now())
        move_commit(move_from(job_id, after, agent))
    leases = {
        Status.ASSIGNED: {"attempt": 1, "at": at, "started": False},
        Status.RUNNING: {"attempt": 1, "at": at, "started": True, "limit": 3600},
    }
    assert stored_lease(agent.id, job_id) == leases.get(after)


@pytest.mark.parametrize(("timeout", "limit"), [(None, 3600), (77, 77)])
def test_a_job_that_starts_has_the_time_limit_of_its_definition(
    job_in: Callable[[Status], str], agent: Actor, timeout: int | None, limit: int
) -> None:
    job_id = job_in(Status.ASSIGNED)
    Job(job_id).update(actions=[Job.timeout.set(timeout) if timeout else Job.timeout.remove()])
    move_commit(move_from(job_id, Status.RUNNING, agent))
    lease = stored_lease(agent.id, job_id)
    assert lease is not None
    assert lease["limit"] == limit


def test_a_lease_ends_as_the_caller_says(job_in: Callable[[Status], str], agent: Actor) -> None:
    job_id = job_in(Status.RUNNING)
    end = LeaseEnd(End.FAULT, reason="the disk is full")
    move_commit(replace(move_from(job_id, Status.QUEUED, agent), lease_end=end))
    heartbeat = Heartbeat.get(agent.id)
    assert (heartbeat.faults, heartbeat.fault_reason) == (1, "the disk is full")


def test_an_agent_gets_no_more_leases_than_the_caller_allows(job_in: Callable[[Status], str], agent: Actor) -> None:
    job_in(Status.RUNNING)
    move = move_from(job_in(Status.QUEUED), Status.ASSIGNED, agent)
    assert refused(replace(move, slots=1)) == {"heartbeat"}
    move_commit(replace(move, slots=2))


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_move_is_in_the_trail_with_its_actor_and_detail_and_an_end_with_its_status(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    job_id = job_in(before)
    move = replace(move_from(job_id, after, agent), detail={"attempt": 7})
    move_commit(move)
    result = after if move.action == Action.JOB_FINISHED else "ok"
    assert event_of(job_id, move.action) == {"actor": agent.id, "result": result, "detail": {"attempt": 7}}


def test_a_replaced_end_is_in_the_trail_with_the_new_one(job_in: Callable[[Status], str], agent: Actor) -> None:
    job_id = job_in(Status.RUNNING)
    lost(job_id, agent, Status.FAILED)
    move_commit(replace(late(job_id, Status.COMPLETED, agent), action=Action.JOB_OUTCOME_REPLACED))
    assert event_of(job_id, Action.JOB_OUTCOME_REPLACED)["result"] == "completed"


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_each_end_is_measured_once_and_nothing_else_is(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    work = Work(request_id="test")
    with at_work(work):
        move_commit(move)
    assert work.measures == ([(metric_names.JOBS_ENDED[after], 1)] if after in metric_names.JOBS_ENDED else [])


def test_a_move_commits_what_the_caller_has_put_into_its_transaction(
    job_in: Callable[[Status], str], agent: Actor
) -> None:
    other = QueueSet(SETS, "other", labels=[])
    transaction = Transaction()
    transaction.put("other", other)
    move_commit(move_from(job_in(Status.QUEUED), Status.ASSIGNED, agent), transaction=transaction)
    assert QueueSet.find(SETS, "other") is not None


def test_a_move_makes_as_many_attempts_as_the_caller_says(job_in: Callable[[Status], str], agent: Actor) -> None:
    move = move_from(job_in(Status.QUEUED), Status.ASSIGNED, agent)
    with fault(Fault.CONFLICT, lasting=True) as injected, pytest.raises(TransactionConflicted):
        move_commit(move, attempts=2)
    assert injected.operations == ["TransactWriteItems"] * 2


def test_a_job_that_waits_again_corrects_the_hint_of_its_label_set(
    job_in: Callable[[Status], str], agent: Actor
) -> None:
    job_id = job_in(Status.RUNNING)
    move = move_from(job_id, Status.QUEUED, agent)
    row = QueueSet(SETS, set_id([]))
    row.update(actions=[QueueSet.first.set(EMPTY)])
    move_commit(move)
    assert move.entry is not None
    assert QueueSet.get(SETS, set_id([])).first == move.entry.position


# --- what stops a move ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_job_that_has_another_status_meanwhile_stops_the_move(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    Job(move.job.job_id).update(actions=[Job.status.set(Status.WAITING)])
    assert refused(move) == {"job"}


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=ids(ALLOWED))
def test_a_job_that_is_at_another_attempt_meanwhile_stops_the_move(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    Job(move.job.job_id).update(actions=[Job.attempt.add(1)])
    assert refused(move) == {"job"}


LEASED_MOVES = [(before, after) for before, after in ALLOWED if before in LEASED]


@pytest.mark.parametrize(("before", "after"), LEASED_MOVES, ids=ids(LEASED_MOVES))
def test_a_job_that_another_agent_has_meanwhile_stops_the_move(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    Job(move.job.job_id).update(actions=[Job.agent_id.set("another")])
    assert refused(move) == {"job"}


@pytest.mark.parametrize(("before", "after"), LEASED_MOVES, ids=ids(LEASED_MOVES))
def test_a_lease_that_is_gone_stops_the_move(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    Heartbeat(agent.id).update(actions=[Heartbeat.lease_map[move.job.job_id].remove()])
    assert refused(move) == {"heartbeat"}


ENDS = [(before, after) for before, after in LEASED_MOVES if after not in LEASED]


@pytest.mark.parametrize(("before", "after"), ENDS, ids=ids(ENDS))
def test_a_caller_who_has_seen_a_cancel_request_that_is_not_there_changes_nothing(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    assert refused(replace(move_from(job_in(before), after, agent), cancel_requested=True)) == {"job"}


@pytest.mark.parametrize(("before", "after"), ENDS, ids=ids(ENDS))
def test_a_cancel_request_that_the_caller_has_not_seen_stops_each_end_of_a_lease(
    job_in: Callable[[Status], str], agent: Actor, before: Status, after: Status
) -> None:
    move = move_from(job_in(before), after, agent)
    Job(move.job.job_id).update(actions=[Job.cancel_requested.set(True)])
    assert refused(move) == {"job"}


def test_a_start_of_the_attempt_needs_not_know_of_a_cancel_request(
    job_in: Callable[[Status], str], agent: Actor
) -> None:
    move = move_from(job_in(Status.ASSIGNED), Status.RUNNING, agent)
    Job(move.job.job_id).update(actions=[Job.cancel_requested.set(True)])
    move_commit(move)


@pytest.mark.parametrize("attempt", [None, 2])
def test_a_claim_requires_the_entry_that_it_comes_from(
    job_in: Callable[[Status], str], agent: Actor, attempt: int | None
) -> None:
    move = move_from(job_in(Status.QUEUED), Status.ASSIGNED, agent)
    assert move.entry is not None
    if attempt is None:
        move.entry.delete()
    else:
        QueueEntry(move.entry.set_id, move.entry.position).update(actions=[QueueEntry.attempt.set(attempt)])
    assert refused(move) == {"entry"}


@pytest.mark.parametrize("attempt", [None, 1, 2])
@pytest.mark.parametrize("after", [Status.CANCELLED, Status.FAILED])
def test_an_end_of_a_waiting_job_deletes_any_entry_and_needs_none(
    job_in: Callable[[Status], str], agent: Actor, after: Status, attempt: int | None
) -> None:
    move = move_from(job_in(Status.QUEUED), after, agent)
    assert move.entry is not None
    if attempt is None:
        move.entry.delete()
    else:
        QueueEntry(move.entry.set_id, move.entry.position).update(actions=[QueueEntry.attempt.set(attempt)])
    move_commit(move)
    assert Everything.read().entries == []


@pytest.mark.parametrize(("left_over", "is_replaced"), [(1, True), (2, True), (3, False)])
def test_a_job_that_waits_again_replaces_an_entry_of_an_earlier_attempt_only(
    job_in: Callable[[Status], str], agent: Actor, left_over: int, is_replaced: bool
) -> None:
    move = move_from(job_in(Status.RUNNING), Status.QUEUED, agent)
    assert move.entry is not None
    QueueEntry(move.entry.set_id, move.entry.position, attempt=left_over).save()
    if is_replaced:
        move_commit(move)
        assert [entry.attempt for entry in Everything.read().entries] == [2]
    else:
        assert refused(move) == {"entry"}


# --- moves that a late report brings --------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [Status.QUEUED, Status.FAILED])
@pytest.mark.parametrize("after", sorted(FINAL - {Status.SKIPPED}))
def test_a_late_end_makes_the_lost_attempt_the_agents_again(
    job_in: Callable[[Status], str], agent: Actor, now: str, before: Status, after: Status
) -> None:
    job_id = job_in(Status.RUNNING)
    lost(job_id, agent, before)
    Job(job_id).update(actions=[Job.open.remove(), Job.log_stored.set("old.log")])
    found = stored_job(job_id)
    with clock.shifted(timedelta(seconds=1)):
        later = clock.timestamp(clock.now())
        move_commit(late(job_id, after, agent))
    ended = stored_job(job_id)
    expected = {
        "status": after,
        "outcome": f"{after}#{created_day(job_id)}",
        "completed_at": later,
        "lost_attempts": 0,
        "agent_id": agent.id,
        "agent_name": agent.name,
        "started_by": agent.id,
        "started_at": MOMENT,
        "open": "open",
        "log_stored": None,
        "lost_agent_id": None,
        "lost_started_at": None,
    }
    assert {name: ended.get(name) for name in expected} == expected
    assert set(changes(found, ended)) <= set(expected)
    assert stored_lease(agent.id, job_id) is None
    assert Everything.read().entries == []
    assert [text for text in Everything.read().inconsistencies() if " ends of " not in text] == []


def test_an_attempt_that_goes_on_has_its_lease_and_its_limit_from_its_first_start_on(
    job_in: Callable[[Status], str], agent: Actor
) -> None:
    job_id = job_in(Status.RUNNING)
    lost(job_id, agent)
    Job(job_id).update(actions=[Job.timeout.set(77)])
    move_commit(late(job_id, Status.RUNNING, agent))
    assert stored_lease(agent.id, job_id) == {"attempt": 1, "at": MOMENT, "started": True, "limit": 77}
    job = stored_job(job_id)
    assert (job["status"], job["started_at"], job["started_by"]) == ("running", MOMENT, agent.id)
    assert (job["agent_id"], job["agent_name"], job["lost_attempts"]) == (agent.id, agent.name, 0)
    assert "lost_agent_id" not in job
    assert Everything.read().inconsistencies() == []


@pytest.mark.parametrize("after", [Status.RUNNING, Status.COMPLETED])
def test_a_late_report_of_another_agent_changes_nothing(
    job_in: Callable[[Status], str], agent: Actor, make_agent: MakeAgent, after: Status
) -> None:
    job_id = job_in(Status.RUNNING)
    lost(job_id, agent)
    assert refused(replace(late(job_id, after, agent), agent_id=make_agent().id)) == {"job"}


@pytest.mark.parametrize("changed", [Job.attempt.add(1), Job.status.set(Status.WAITING)])
def test_a_late_report_about_a_job_that_has_changed_since_is_refused(
    job_in: Callable[[Status], str], agent: Actor, changed: Any
) -> None:
    job_id = job_in(Status.RUNNING)
    lost(job_id, agent)
    move = late(job_id, Status.COMPLETED, agent)
    Job(job_id).update(actions=[changed])
    assert refused(move) == {"job"}


@pytest.mark.parametrize("after", [Status.COMPLETED, Status.RUNNING])
def test_a_late_report_about_a_job_that_has_not_lost_its_attempt_is_refused_without_a_call(
    job_in: Callable[[Status], str], agent: Actor, after: Status
) -> None:
    move = late(job_in(Status.ASSIGNED), after, agent)
    with dynamodb_calls() as metering, pytest.raises(Conflict) as refusal:
        move_commit(move)
    assert (refusal.value.code, metering.calls) == ("job_state", 0)


# --- cancel requests ------------------------------------------------------------------------------------------------


def test_a_cancel_request_is_at_the_job_its_lease_and_in_the_trail(
    job_in: Callable[[Status], str], agent: Actor, operator_actor: Actor, now: str
) -> None:
    job_id = job_in(Status.RUNNING)
    found = stored_job(job_id)
    with clock.shifted(timedelta(seconds=1)):
        later = clock.timestamp(clock.now())
        cancel_request_commit(job=Job.get(job_id), actor=operator_actor)
    assert changes(found, stored_job(job_id)) == {"cancel_requested": True}
    lease = {"attempt": 1, "at": now, "started": True, "limit": 3600, "wish": "cancel", "wish_at": later}
    assert stored_lease(agent.id, job_id) == lease
    event = {"actor": operator_actor.id, "result": "ok", "detail": None}
    assert event_of(job_id, Action.JOB_CANCEL_REQUESTED) == event


@pytest.mark.parametrize(
    "changed",
    [
        Job.attempt.add(1),
        Job.agent_id.set("another"),
        Job.status.set(Status.ASSIGNED),
        Job.cancel_requested.set(True),
    ],
)
def test_a_cancel_request_for_another_attempt_agent_or_status_or_a_second_one_changes_nothing(
    job_in: Callable[[Status], str], operator_actor: Actor, changed: Any
) -> None:
    job = Job.get(job_in(Status.RUNNING))
    Job(job.job_id).update(actions=[changed])
    found = stored()
    with pytest.raises(TransactionFailed) as refusal:
        cancel_request_commit(job=job, actor=operator_actor)
    assert (set(refusal.value.failed), stored()) == ({"job"}, found)


def test_a_new_job_counts_for_the_day_in_its_id(make_job: Callable[..., str], operator_actor: Actor) -> None:
    job = Job.get(make_job())
    with clock.shifted(timedelta(days=-3)):
        job.job_id = new_id()
        day = clock.timestamp(clock.now())[:10]
    new = Move(
        job=job,
        before=None,
        after=Status.QUEUED,
        attempt=0,
        actor=operator_actor,
        action=Action.JOB_CREATED,
        entry=entry_of(job, attempt=1),
    )
    move_commit(new)
    days = {f"{share.year}-{share.day_share.partition('#')[0]}" for share in DayCounter.scan()}
    assert day in days
    with pytest.raises(TransactionFailed):
        move_commit(new)
