"""How a job gets into the queue, out of it again, and into the hands of an agent."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from django.core.cache import cache

from apps.agents.services import lease_add
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.label_sets import position_job_id, position_priority, queue_position, set_id
from apps.jobs.models import SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import HEAD, queue_front, waited_seconds
from apps.jobs.states import Status
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.work import measure, subject_note
from controlplane.nosql.transaction import Transaction, TransactionConflicted, TransactionFailed

# How long a process believes that a set is in the registry. The sweep waits longer than this before it prunes one.
_SET_KNOWN_SECONDS = 20

# How often a poll may lose the race for a job before it leaves the work to others.
_TRIES = 4

# Without contention the head of the queue is taken, so that jobs run in their order. Each lost race widens the range
# from which the next claim is drawn, so that fifty agents do not run for the same job; each win narrows it slowly,
# and after a few quiet seconds it is forgotten.
_WIDEST_SPREAD = 200
_SPREAD = "queue-spread"
_SPREAD_SECONDS = 5

# Threads of one process tell each other which entries they try, for longer than a claim takes.
_TRIED_SECONDS = 5


@dataclass(frozen=True)
class Assignment:
    """An attempt offered to an agent, which acknowledges it by starting it."""

    job_id: str
    attempt: int

    def as_dict(self) -> dict[str, str | int]:
        return {"job_id": self.job_id, "attempt": self.attempt}


def entry_of(job: Job, *, attempt: int, since: str | None = None) -> QueueEntry:
    """The queue's entry for `attempt` of the job, which waits since then, or since its creation."""
    return QueueEntry(
        set_id=set_id(job.labels),
        position=queue_position(priority=int(job.priority), created_at=job.created_at, job_id=job.job_id),
        attempt=attempt,
        since=since,
    )


def set_register(*, labels: Sequence[str]) -> None:
    """Name the set in the registry, so that agents look there. To be called before an entry of it is written.

    A set too many does no harm; a set too few would leave its jobs waiting for ever. So the sweep (`sets_prune`) only
    prunes what has been marked for longer than any process believes what it knows.
    """
    name = set_id(labels)
    known = f"queue-set:{name}"
    if cache.get(known):
        return
    QueueSet(set_id=SETS, position=name).update(
        actions=[QueueSet.labels.set(sorted(set(labels))), QueueSet.retiring_at.remove()]
    )
    cache.set(known, True, _SET_KNOWN_SECONDS)


def jobs_claim(*, agent: Actor, set_ids: Sequence[str], limit: int) -> list[Assignment]:
    """Take up to `limit` waiting jobs of these sets for the agent, the most urgent first.

    One transaction a job: the entry goes, the job is assigned, the agent holds it. So two calls to DynamoDB for one job
    of one set if nobody is in the way.
    """
    claimed: list[Assignment] = []
    front = queue_front(set_ids, limit=max(HEAD, round(cache.get(_SPREAD, 1))))
    for entry in islice(filter(_entry_reserve, _in_order_of_trial(front)), _TRIES + limit):
        if _entry_claim(entry, agent=agent):
            claimed.append(Assignment(job_id=position_job_id(entry.position), attempt=int(entry.attempt)))
        if len(claimed) == limit:
            break
    return claimed


def _in_order_of_trial(entries: Sequence[QueueEntry]) -> list[QueueEntry]:
    """The entries in their order, those of the first priority shuffled over the present spread."""
    if not entries:
        return []
    first = position_priority(entries[0].position)
    equals = [entry for entry in entries if position_priority(entry.position) == first]
    reach = max(1, min(len(equals), round(cache.get(_SPREAD, 1))))
    near, far = equals[:reach], list(entries[reach:])
    random.shuffle(near)
    return near + far


def _entry_reserve(entry: QueueEntry) -> bool:
    """Whether no other thread of this process tries the entry just now. Saves a race that is as good as lost."""
    if cache.add(f"queue-tried:{entry.position}#{int(entry.attempt)}", True, _TRIED_SECONDS):
        return True
    _widen_spread()
    return False


def _widen_spread() -> None:
    cache.set(_SPREAD, min(_WIDEST_SPREAD, cache.get(_SPREAD, 1) * 2), _SPREAD_SECONDS)


def _narrow_spread() -> None:
    spread = cache.get(_SPREAD)
    if spread is not None:
        cache.set(_SPREAD, max(1, spread * 0.98), _SPREAD_SECONDS)


def _entry_claim(entry: QueueEntry, *, agent: Actor) -> bool:
    """Try to give the entry's attempt to the agent. False when another was faster or the job has been cancelled."""
    job_id, attempt, now = position_job_id(entry.position), int(entry.attempt), clock.timestamp(clock.now())
    transaction = Transaction()
    transaction.delete("entry", entry, QueueEntry.attempt == attempt)
    transaction.update(
        "job",
        Job(job_id=job_id),
        actions=[
            Job.status.set(Status.ASSIGNED),
            Job.attempt.set(attempt),
            Job.agent_id.set(agent.id),
            Job.assigned_at.set(now),
        ],
        condition=(Job.status == Status.QUEUED) & (Job.attempt == attempt - 1),
    )
    lease_add(transaction, agent_id=agent.id, job_id=job_id, attempt=attempt, at=now)
    audit_add(transaction, actor=agent, action=Action.JOB_CLAIMED, target=f"job:{job_id}", detail={"attempt": attempt})
    try:
        transaction.commit(attempts=1)
    except TransactionConflicted:
        _widen_spread()
        return False
    except TransactionFailed as failure:
        standing = failure.failed.get("job")
        if isinstance(standing, Job) and _is_claimed_by(standing, agent.id, attempt):
            # Our own claim, whose response was lost.
            return True
        _widen_spread()
        return False
    _narrow_spread()
    measure(metric_names.JOB_WAIT, waited_seconds(entry))
    subject_note(job_id=job_id)
    return True


def _is_claimed_by(job: Job, agent_id: str, attempt: int) -> bool:
    return job.status == Status.ASSIGNED and job.agent_id == agent_id and job.attempt == attempt
