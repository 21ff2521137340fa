"""Claiming jobs from the queue for agents."""

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import Enum, auto
from itertools import islice

from django.core.cache import cache

from apps.agents.states import MAX_SLOTS
from apps.audit.actions import Action
from apps.jobs.label_sets import position_job_id, position_priority
from apps.jobs.models import Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import HEAD, QueueFront, entry_avoids, waited_seconds
from apps.jobs.services.queue import hints_correct
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import Status
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.frozen import frozen
from controlplane.lib.work import measure, subject_note
from controlplane.nosql.transaction import ItemTooLarge, TransactionConflicted, TransactionFailed

# How often a poll may lose the race for a job before it leaves the work to other agents.
_TRIES = 4

# Without contention a claim takes the head of the queue, so that jobs run in their order. Each lost race widens the
# range from which the next claims are drawn, so that fifty agents do not try for the same job. Each win narrows it
# slowly. It also halves each second, so that the order is exact again soon after the last race.
_WIDEST_SPREAD = 200
_SPREAD = "queue-spread"
_SPREAD_SECONDS = 8

# A job that others of its priority have passed in such a range is tried before them after this time.
_PATIENCE = timedelta(seconds=2)
_PASSED = "queue-passed"
_PASSED_SECONDS = 60

# How long the threads of one process reserve an entry, which is longer than a claim takes.
_TRIED_SECONDS = 5


class _Outcome(Enum):
    """What became of an entry that a claim tried."""

    CLAIMED = auto()
    # The entry is no longer in the queue.
    GONE = auto()
    # The entry may still wait.
    KEPT = auto()
    # The agent has as many leases as it may have, or gets no work any more.
    AGENT_FULL = auto()


@frozen
class Assignment:
    """An attempt offered to an agent, which acknowledges it by starting it."""

    job_id: str
    attempt: int

    def as_dict(self) -> dict[str, str | int]:
        return {"job_id": self.job_id, "attempt": self.attempt}


def jobs_claim(*, agent: Actor, sets: Sequence[QueueSet], limit: int, slots: int = MAX_SLOTS) -> list[Assignment]:
    """Claim up to `limit` queued jobs of these label sets for the agent, the most urgent first.

    The agent has at most `slots` leases after that, also while other requests of it claim jobs.

    Each job costs one transaction, which deletes the entry, assigns the job and adds the agent's lease. So one job of
    one set costs two calls to DynamoDB when no other agent competes for it.

    Among jobs of one priority the order is exact, unless agents compete: then this process may pass over a job for
    `_PATIENCE` at most, before it tries that job first.
    """
    claimed: list[Assignment] = []
    gone: set[str] = set()
    front = QueueFront(sets, limit=max(HEAD, int(_spread())))
    waiting = (entry for entry in front if not entry_avoids(entry, agent.id))
    for entry in islice(filter(_entry_reserve, _in_order_of_trial(waiting)), _TRIES + limit):
        outcome = _entry_claim(entry, agent=agent, slots=slots)
        if outcome == _Outcome.AGENT_FULL:
            # No lost race: the entry is for others now.
            _entry_unreserve(entry)
            break
        if outcome != _Outcome.KEPT:
            gone.add(entry.position)
        if outcome == _Outcome.CLAIMED:
            claimed.append(Assignment(job_id=position_job_id(entry.position), attempt=int(entry.attempt)))
        if len(claimed) == limit:
            break
    hints_correct(front, gone=gone)
    return claimed


def _in_order_of_trial(entries: Iterator[QueueEntry]) -> Iterator[QueueEntry]:
    """The entries in their order, with those of the first priority shuffled within the current spread."""
    near = list(islice(entries, int(_spread())))
    if not near:
        return
    first = position_priority(near[0].position)
    passed = _passed_until(near[0].position)
    equals = [entry for entry in near if position_priority(entry.position) == first]
    due = [entry for entry in equals if entry.position < passed]
    others = equals[len(due) :]
    random.shuffle(others)
    for entry in (*due, *others):
        if entry.position > near[0].position:
            _passed_note(entry.position)
        yield entry
    yield from near[len(equals) :]
    yield from entries


def _passed_until(head: str) -> str:
    """The position up to which entries are tried first, in their order, since they were passed over long enough."""
    position, since = cache.get(_PASSED, ("", None))
    if position <= head:
        # All entries that were passed over are gone.
        cache.delete(_PASSED)
        return ""
    return str(position) if since is not None and clock.now() - since >= _PATIENCE else ""


def _passed_note(position: str) -> None:
    """Note that the process tries this entry before more urgent ones, unless it has passed over others already."""
    cache.add(_PASSED, (position, clock.now()), _PASSED_SECONDS)


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


def _spread() -> float:
    """The number of entries from which a claim draws: 1 without contention."""
    widest, at = cache.get(_SPREAD, (1.0, None))
    if at is None:
        return 1.0
    return float(max(1.0, widest * 0.5 ** max(0.0, (clock.now() - at).total_seconds())))


def _widen_spread() -> None:
    cache.set(_SPREAD, (min(_WIDEST_SPREAD, _spread() * 2), clock.now()), _SPREAD_SECONDS)


def _narrow_spread() -> None:
    spread = _spread()
    if spread > 1:
        cache.set(_SPREAD, (spread * 0.98, clock.now()), _SPREAD_SECONDS)


def _entry_claim(entry: QueueEntry, *, agent: Actor, slots: int) -> _Outcome:
    """Try to assign the entry's attempt to the agent."""
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
    except TransactionConflicted:
        _widen_spread()
        return _Outcome.KEPT
    except TransactionFailed as failure:
        return _claim_refused(entry, failure)
    except ItemTooLarge:
        # No cold start shall load what heals the queue.
        from apps.jobs.services.reconciliation import entry_fail

        entry_fail(entry)
        return _Outcome.GONE
    _narrow_spread()
    measure(metric_names.JOB_WAIT, waited_seconds(entry))
    subject_note(job_id=job_id)
    return _Outcome.CLAIMED


def _claim_refused(entry: QueueEntry, failure: TransactionFailed) -> _Outcome:
    """Find out why the claim was refused, and delete an entry that contradicts its job."""
    if "entry" in failure.failed:
        # Another agent was faster, or the job was cancelled.
        _widen_spread()
        return _Outcome.GONE
    if "job" in failure.failed:
        from apps.jobs.services.reconciliation import entry_heal

        entry_heal(entry)
        return _Outcome.GONE
    return _Outcome.AGENT_FULL
