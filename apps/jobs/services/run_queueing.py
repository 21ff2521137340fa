"""Letting jobs of a run start: they are queued, or wait in the line of a concurrency group."""

from collections.abc import Sequence
from typing import Any

from apps.jobs.models import RUN, Job, QueueEntry, Run
from apps.jobs.models.group import group_key
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.groups import group_front, group_slots
from apps.jobs.selectors.run_context import group_name
from apps.jobs.selectors.runs import RunView, waiting_record
from apps.jobs.services.groups import line_join, line_leave, run_member, slot_is_free, slot_take
from apps.jobs.services.queue import entry_announce, entry_of, set_register
from apps.jobs.services.run_endings import Freed, job_end, jobs_end, run_give_way
from apps.jobs.services.run_nodes import node_leave, node_wait
from apps.jobs.services.transitions import Move, move_add
from apps.jobs.states import Status
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import InvalidInput
from controlplane.nosql.transaction import Transaction

# How many jobs one transaction queues or ends: DynamoDB takes 100 operations, and a job has up to four.
BATCH = 24


def jobs_queue(jobs: Sequence[Job], *, transaction: Transaction | None = None) -> None:
    """Queue waiting jobs (`BATCH` at most), by one transaction, together with what it has already.

    Raises TransactionFailed if one of them does not wait any more.
    """
    transaction = transaction or Transaction()
    entries = [_queue_add(transaction, job) for job in jobs]
    transaction.commit()
    _announce(entries)


def _queue_add(transaction: Transaction, record: Job, *changes: Any) -> tuple[Job, QueueEntry]:
    set_register(labels=record.labels)
    attempt = int(record.attempt)
    entry = entry_of(record, attempt=attempt + 1, since=clock.timestamp(clock.now()))
    move_add(
        transaction,
        Move(
            job=record,
            before=Status.WAITING,
            after=Status.QUEUED,
            attempt=attempt,
            actor=SYSTEM,
            action=None,
            entry=entry,
            changes=changes,
        ),
    )
    return record, entry


def _announce(entries: Sequence[tuple[Job, QueueEntry]]) -> None:
    """Correct the hints of the label sets: once for each set, with its most urgent entry."""
    first: dict[str, tuple[Job, QueueEntry]] = {}
    for job, entry in sorted(entries, key=lambda pair: str(pair[1].position)):
        first.setdefault(str(entry.set_id), (job, entry))
    for job, entry in first.values():
        entry_announce(labels=job.labels, position=str(entry.position))


def job_queue_in_group(view: RunView, job: GraphJob, freed: Freed, *, also: Transaction | None = None) -> bool:
    """Queue a waiting job with a slot of its group, or put it into the group's line.

    `also` is written together with the first. False if the job has ended, as its group has no name. Raises
    TransactionFailed.
    """
    record, settings = waiting_record(view, job), job.node.group or {}
    if not record.group:
        try:
            name = group_name(view.run, job, view.jobs, view.nodes)
        except InvalidInput as error:
            jobs_end(view, [job], Status.FAILED, {job.name: f"Its concurrency group has no name: {error.message}"})
            return False
        record.group = group_key(str(view.run.pipeline), name)
    front = group_front(str(record.group))
    if settings["cancel_in_progress"] and front.taken:
        for member in group_slots(str(record.group)):
            job_end(str(member.job_id), "a newer job of its concurrency group takes its place")
            freed.runs.add(str(member.run_id))
        front = group_front(str(record.group))
    if slot_is_free(front, record, limit=int(settings["limit"])):
        transaction = also or Transaction()
        entry = _queue_add(transaction, record, Job.group.set(record.group))
        slot_take(transaction, record, front=front)
        transaction.commit()
        _announce([entry])
    elif not record.group_since:
        transaction = Transaction()
        record.group_since = clock.timestamp(clock.now())
        line_join(transaction, record, front=front)
        node_wait(transaction, record)
        transaction.commit()
    return True


def job_line_leave(view: RunView, job: GraphJob, freed: Freed) -> None:
    """Take a waiting job that may not start for now out of its group's line, where it would bar those behind it.

    It joins the line again, at its end, when it may start. Raises TransactionFailed.
    """
    record, node = waiting_record(view, job), view.nodes[job.name]
    transaction = Transaction()
    line_leave(transaction, record)
    node_leave(transaction, record)
    transaction.commit()
    freed.groups.add(str(record.group))
    # The view is as the transaction has left it.
    node.group, node.group_since = None, None


def run_queue_in_group(view: RunView, freed: Freed) -> bool:
    """Take a slot of the concurrency group of the whole run. Without one, the run waits in the group's line.

    Raises TransactionFailed.
    """
    run = view.run
    member = run_member(run)
    front = group_front(str(run.group))
    if run.group_cancels and front.taken:
        for other in group_slots(str(run.group)):
            run_give_way(str(other.run_id))
            freed.runs.add(str(other.run_id))
        front = group_front(str(run.group))
    transaction = Transaction()
    row = Run(run.run_id, RUN)
    if slot_is_free(front, member, limit=int(run.group_limit)):
        slot_take(transaction, member, front=front)
        waits = Run.has_slot.does_not_exist()
        transaction.update("run", row, actions=[Run.has_slot.set(True), Run.group_since.remove()], condition=waits)
        transaction.commit()
        return True
    if not run.group_since:
        member.group_since = clock.timestamp(clock.now())
        line_join(transaction, member, front=front)
        since = Run.group_since.set(member.group_since)
        transaction.update("run", row, actions=[since], condition=Run.group_since.does_not_exist())
        transaction.commit()
    return False
