"""Healing the queue: entries and jobs that contradict each other, as after a restore of tables from different moments.

The job's record is the truth. A queued job has one entry, for its next attempt, in the set of its labels; no other job
has one. An assigned or running job has a lease, without which it would never expire.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from apps.agents.selectors import heartbeats_get
from apps.agents.services import lease_restore, portion
from apps.audit.actions import Action
from apps.jobs.label_sets import position_job_id, set_id
from apps.jobs.models import OPEN, Job, QueueEntry
from apps.jobs.selectors.jobs import BY_OPEN
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services.limits import time_limit
from apps.jobs.services.pauses import first_jobs_release
from apps.jobs.services.queue import entry_announce, entry_of, set_register
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.transitions import Move, attempt_fence, move_commit
from apps.jobs.states import LEASED, Status
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.listing import Place
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# How many jobs, and how many entries, one call of DynamoDB reads.
_BATCH = 100


def entry_heal(entry: QueueEntry) -> bool:
    """Delete the entry if its job says otherwise, and add the right one if the job is queued. False if all is well."""
    job = Job.find(position_job_id(entry.position))
    if job is not None and _is_entry_of(entry, job):
        return False
    logger.warning("an entry of the queue contradicts its job; deleting it", extra=_subject(entry))
    try:
        entry.delete(condition=QueueEntry.attempt == entry.attempt)
    except ConditionFailed:
        # Another process was faster, or the job was queued again.
        return False
    if job is not None:
        entry_restore(job)
    return True


def entry_restore(job: Job) -> bool:
    """Give a queued job its entry. False if it has the right one, or has changed since it was read."""
    if job.status != Status.QUEUED:
        return False
    attempt = int(job.attempt)
    entry = entry_of(job, attempt=attempt + 1, since=clock.timestamp(clock.now()) if attempt else None)
    set_register(labels=job.labels)
    transaction = Transaction()
    transaction.check("job", job, (Job.status == Status.QUEUED) & (Job.attempt == attempt))
    is_other = QueueEntry.attempt.does_not_exist() | (QueueEntry.attempt != entry.attempt)
    transaction.put("entry", entry, is_other)
    try:
        transaction.commit()
    except TransactionFailed:
        return False
    logger.warning("a queued job had no entry in the queue; it has one now", extra=_subject(entry))
    entry_announce(labels=job.labels, position=entry.position)
    return True


def entry_fail(entry: QueueEntry) -> None:
    """End the job of an entry that no agent can claim, since its item would exceed DynamoDB's limit."""
    job = Job.find(position_job_id(entry.position))
    if job is None or not _is_entry_of(entry, job):
        entry_heal(entry)
        return
    move = Move(
        job=job,
        before=Status.QUEUED,
        after=Status.FAILED,
        attempt=int(job.attempt),
        actor=SYSTEM,
        action=Action.JOB_FINISHED,
        entry=entry,
        # Without its definition, the record has room for the reason.
        changes=[Job.error_message.set(_TOO_LARGE), Job.definition.remove(), Job.steps.remove()],
        detail={"reason": "too large"},
    )
    try:
        move_commit(move)
    except TransactionFailed:
        # It was cancelled meanwhile.
        return
    run_follow(job)
    logger.warning("a job cannot be run: its record is too large; it has failed", extra=_subject(entry))


_TOO_LARGE = (
    "No agent can run this job, because its definition and variables are too large to store. Shorten the definition, "
    "for example by moving scripts into the repository. Then create the job again."
)


def queue_reconcile(*, seconds: float) -> int:
    """Heal the queue for at most so many seconds, from where the last call stopped. Returns what was wrong.

    It compares the open jobs with the queue, then the queue with the jobs. A call reads 100 of them.
    """
    jobs = portion("queue_reconcile_jobs", _open_jobs, _place_of_jobs, seconds=seconds / 2)
    healed = sum(_jobs_heal(batch) for batch in jobs)
    entries = portion("queue_reconcile_entries", _entries, _place_of_entries, seconds=seconds / 2)
    return healed + sum(_entries_heal(batch) for batch in entries)


def _open_jobs(start: Place | None) -> Iterator[list[Job]]:
    return BY_OPEN.batches([OPEN], start=start)


def _place_of_jobs(jobs: list[Job]) -> Place:
    return BY_OPEN.place_of(jobs[-1])


def _jobs_heal(jobs: list[Job]) -> int:
    """Give each job the entry or the lease that it lacks. Also queue those whose pipeline is not paused any more."""
    first_jobs_release(jobs)
    return _entries_restore(jobs) + _leases_restore(jobs)


def _leases_restore(jobs: Iterable[Job]) -> int:
    leased = [job for job in jobs if job.status in LEASED]
    heartbeats = heartbeats_get(job.agent_id for job in leased)
    return sum(
        _lease_restore(job)
        for job in leased
        if job.agent_id in heartbeats and job.job_id not in heartbeats[job.agent_id].leases
    )


def _lease_restore(job: Job) -> bool:
    """Give the job its lease back. If its agent no longer runs it, the lease expires, and the job is queued again."""
    agent_id, attempt = str(job.agent_id), int(job.attempt)
    transaction = Transaction()
    transaction.check("job", job, attempt_fence(agent_id, attempt) & (Job.status == job.status))
    started = job.status == Status.RUNNING
    lease_restore(
        transaction,
        agent_id=agent_id,
        job_id=job.job_id,
        attempt=attempt,
        at=clock.timestamp(clock.now()),
        started=started,
        limit=time_limit(job.timeout) if started else None,
        command="cancel" if job.cancel_requested else None,
    )
    try:
        transaction.commit()
    except TransactionFailed:
        # It has ended or started since it was read.
        return False
    subject = {"job_id": job.job_id, "agent_id": agent_id, "attempt": attempt}
    logger.warning("a leased job had no lease; it has one now", extra=subject)
    return True


def _entries_restore(jobs: Iterable[Job]) -> int:
    queued = [job for job in jobs if job.status == Status.QUEUED]
    if not queued:
        return 0
    registered = {queue_set.position for queue_set in queue_registry().sets}
    wanted = [entry_of(job, attempt=int(job.attempt) + 1) for job in queued]
    entries = QueueEntry.find_many((entry.set_id, entry.position) for entry in wanted)
    found = {position_job_id(entry.position): entry for entry in entries}
    healed = 0
    for job, entry in zip(queued, wanted, strict=True):
        if entry.set_id not in registered:
            # Without a row in the registry, no agent finds the set.
            entry_announce(labels=job.labels, position=entry.position)
        if job.job_id not in found or not _is_entry_of(found[job.job_id], job):
            healed += entry_restore(job)
    return healed


def _entries(start: Place | None) -> Iterator[list[QueueEntry]]:
    """The entries of all label sets, in the order of the sets' ids."""
    for name in sorted(queue_set.position for queue_set in queue_registry().sets):
        if start and name < start["set_id"]:
            continue
        after = QueueEntry.position > start["position"] if start and name == start["set_id"] else None
        found = iter(QueueEntry.query(name, after, page_size=_BATCH, consistent_read=True))
        while batch := list(islice(found, _BATCH)):
            yield batch


def _place_of_entries(entries: list[QueueEntry]) -> Place:
    return {"set_id": entries[-1].set_id, "position": entries[-1].position}


def _entries_heal(entries: Iterable[QueueEntry]) -> int:
    """Delete the entries that contradict their jobs."""
    by_job = {position_job_id(entry.position): entry for entry in entries}
    jobs = {job.job_id: job for job in Job.find_many(by_job)}
    suspect = [entry for job_id, entry in by_job.items() if job_id not in jobs or not _is_entry_of(entry, jobs[job_id])]
    return sum(entry_heal(entry) for entry in suspect)


def _is_entry_of(entry: QueueEntry, job: Job) -> bool:
    """Whether the job is queued, and this is its entry."""
    return (
        job.status == Status.QUEUED
        and entry.attempt == job.attempt + 1
        and entry.set_id == set_id(job.labels)
        and entry.position == entry_of(job, attempt=0).position
    )


def _subject(entry: QueueEntry) -> dict[str, str | int]:
    return {"job_id": position_job_id(entry.position), "attempt": int(entry.attempt)}
