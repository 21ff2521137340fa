"""Claiming jobs from the queue for agents."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from django.core.cache import cache

from apps.agents.states import MAX_SLOTS
from apps.audit.actions import Action
from apps.jobs.label_sets import position_job_id, position_priority
from apps.jobs.models import Job, QueueEntry
from apps.jobs.selectors.queue import HEAD, entry_avoids, queue_front, waited_seconds
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import Status
from controlplane.lib import metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.work import measure, subject_note
from controlplane.nosql.transaction import TransactionConflicted, TransactionFailed

# How often a poll may lose the race for a job before it leaves the work to other agents.
_TRIES = 4

# Without contention a claim takes the head of the queue, so that jobs run in their order. Each lost race widens the
# range from which the next claim is drawn, so that fifty agents do not try for the same job. Each win narrows it
# slowly, and after a few quiet seconds it is forgotten.
_WIDEST_SPREAD = 200
_SPREAD = "queue-spread"
_SPREAD_SECONDS = 5

# How long the threads of one process reserve an entry, which is longer than a claim takes.
_TRIED_SECONDS = 5


@dataclass(frozen=True)
class Assignment:
    """An attempt offered to an agent, which acknowledges it by starting it."""

    job_id: str
    attempt: int

    def as_dict(self) -> dict[str, str | int]:
        return {"job_id": self.job_id, "attempt": self.attempt}


class _AgentFull(Exception):
    """The agent has as many leases as it may have, or gets no work any more."""


def jobs_claim(*, agent: Actor, set_ids: Sequence[str], limit: int, slots: int = MAX_SLOTS) -> list[Assignment]:
    """Claim up to `limit` queued jobs of these label sets for the agent, the most urgent first.

    The agent has at most `slots` leases after that, also while other requests of it claim jobs.

    Each job costs one transaction, which deletes the entry, assigns the job and adds the agent's lease. So one job of
    one set costs two calls to DynamoDB when no other agent competes for it.
    """
    claimed: list[Assignment] = []
    front = queue_front(set_ids, limit=max(HEAD, round(cache.get(_SPREAD, 1))))
    front = [entry for entry in front if not entry_avoids(entry, agent.id)]
    for entry in islice(filter(_entry_reserve, _in_order_of_trial(front)), _TRIES + limit):
        try:
            if _entry_claim(entry, agent=agent, slots=slots):
                claimed.append(Assignment(job_id=position_job_id(entry.position), attempt=int(entry.attempt)))
        except _AgentFull:
            # No lost race: the entry is for others now.
            _entry_unreserve(entry)
            break
        if len(claimed) == limit:
            break
    return claimed


def _in_order_of_trial(entries: Sequence[QueueEntry]) -> list[QueueEntry]:
    """The entries in their order, with those of the first priority shuffled within the current spread."""
    if not entries:
        return []
    first = position_priority(entries[0].position)
    equals = [entry for entry in entries if position_priority(entry.position) == first]
    reach = max(1, min(len(equals), round(cache.get(_SPREAD, 1))))
    near, far = equals[:reach], list(entries[reach:])
    random.shuffle(near)
    return near + far


def _entry_reserve(entry: QueueEntry) -> bool:
    """Reserve the entry for this thread. False when another thread of this process tries it, which would likely win."""
    if cache.add(_reserved(entry), True, _TRIED_SECONDS):
        return True
    _widen_spread()
    return False


def _entry_unreserve(entry: QueueEntry) -> None:
    cache.delete(_reserved(entry))


def _reserved(entry: QueueEntry) -> str:
    return f"queue-tried:{entry.position}#{int(entry.attempt)}"


def _widen_spread() -> None:
    cache.set(_SPREAD, min(_WIDEST_SPREAD, cache.get(_SPREAD, 1) * 2), _SPREAD_SECONDS)


def _narrow_spread() -> None:
    spread = cache.get(_SPREAD)
    if spread is not None:
        cache.set(_SPREAD, max(1, spread * 0.98), _SPREAD_SECONDS)


def _entry_claim(entry: QueueEntry, *, agent: Actor, slots: int) -> bool:
    """Try to assign the entry's attempt to the agent. False when another agent was faster or the job was cancelled.

    Raises _AgentFull.
    """
    job_id, attempt = position_job_id(entry.position), int(entry.attempt)
    move = Move(
        job=Job(job_id=job_id),
        before=Status.QUEUED,
        after=Status.ASSIGNED,
        attempt=attempt - 1,
        actor=agent,
        action=Action.JOB_CLAIMED,
        agent_id=agent.id,
        entry=entry,
        slots=slots,
        detail={"attempt": attempt},
    )
    try:
        move_commit(move, attempts=1)
    except (TransactionConflicted, TransactionFailed) as failure:
        if isinstance(failure, TransactionFailed) and "heartbeat" in failure.failed:
            raise _AgentFull from failure
        _widen_spread()
        return False
    _narrow_spread()
    measure(metric_names.JOB_WAIT, waited_seconds(entry))
    subject_note(job_id=job_id)
    return True
