"""Writing the queue: the entries of jobs, and the registry of label sets from which agents claim jobs."""

import logging
import math
import random
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from django.core.cache import cache

from apps.jobs.label_sets import queue_position, set_id
from apps.jobs.models import EMPTY, SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import QueueFront, queue_head, queue_registry
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import TooManyRequests, Unavailable
from controlplane.nosql.connection import ConditionFailed

logger = logging.getLogger(__name__)

# How many label sets the registry may have: that many rows of 200 bytes cost a poll 10 read units. And how many of them
# the jobs of one pipeline and those of one user may add.
MAX_SETS = 200
MAX_SETS_OF_PIPELINE = 20
MAX_SETS_OF_USER = 50

# An agent's polls may as well read all of up to this many sets, so they need no exact hints and pay for none.
_SETS_WITHOUT_HINTS = 4
# How often a hint is tried to be corrected while others change it.
_TRIES = 4

# How long a process caches that a label set is registered. The sweep waits longer than this before it prunes a set.
_SET_KNOWN_SECONDS = 20
_PRUNE_AFTER = timedelta(seconds=60)


def entry_of(job: Job, *, attempt: int, since: str | None = None) -> QueueEntry:
    """The queue entry for `attempt` of the job. `since` is when the job began to wait; None means its creation."""
    return QueueEntry(
        set_id=set_id(job.labels),
        position=queue_position(priority=int(job.priority), created_at=job.created_at, job_id=job.job_id),
        attempt=attempt,
        since=since,
    )


def set_register(*, labels: Sequence[str]) -> None:
    """Add the label set to the registry, so that agents read it. Call this before writing an entry of the set.

    An unused set does no harm, but jobs of a missing set would wait for ever. So the sweep (`sets_prune`) prunes a set
    only if it marked the set longer ago than any process caches the registry.
    """
    if not _set_touch(labels):
        _set_add(labels)


def set_open(*, labels: Sequence[str], pipeline: str, actor: Actor) -> None:
    """Do the same as `set_register` for a new job, within the limits on the number of label sets.

    The limits are on the sets in the registry that the jobs of a pipeline, of a user (by API tokens, too) and of all
    have added. Requests at the same moment may exceed them by their own number.

    Raises TooManyRequests with code ``too_many_label_sets``.
    """
    if _set_touch(labels):
        return
    sets, user = queue_registry().sets, actor.person_id
    of_pipeline = sum(found.pipeline == pipeline for found in sets)
    of_user = sum(found.opened_by == user for found in sets) if user else 0
    _limit_require("All jobs together", len(sets), MAX_SETS)
    _limit_require(f"The jobs of the pipeline {pipeline}", of_pipeline, MAX_SETS_OF_PIPELINE)
    _limit_require(f"The jobs of {actor.name}", of_user, MAX_SETS_OF_USER)
    _set_add(labels, QueueSet.pipeline.set(pipeline), *([QueueSet.opened_by.set(user)] if user else []))


def _limit_require(whose: str, sets: int, most: int) -> None:
    if sets >= most:
        raise TooManyRequests(
            f"{whose} wait under {sets} different combinations of labels, of at most {most}. Use combinations that are "
            "in use, or try again when some of these jobs have started.",
            code=ErrorCode.TOO_MANY_LABEL_SETS,
            retry_after=int(_PRUNE_AFTER.total_seconds()) * 2,
        )


def _set_touch(labels: Sequence[str]) -> bool:
    """Remove the sweep's mark from the set's row. False if there is no row. No call if the process did so recently."""
    name = set_id(labels)
    if cache.get(_known(name)):
        return True
    try:
        QueueSet(SETS, name).update(actions=[QueueSet.retiring_at.remove()], condition=QueueSet.labels.exists())
    except ConditionFailed:
        return False
    cache.set(_known(name), True, _SET_KNOWN_SECONDS)
    return True


def _set_add(labels: Sequence[str], *actions: Any) -> None:
    """Add the set's row, which says that no job waits in it. If another process has added it since, its hint stays."""
    name = set_id(labels)
    QueueSet(SETS, name).update(
        actions=[
            QueueSet.labels.set(sorted(set(labels))),
            QueueSet.first.set(QueueSet.first | EMPTY),
            QueueSet.retiring_at.remove(),
            *actions,
        ]
    )
    cache.set(_known(name), True, _SET_KNOWN_SECONDS)


def _known(name: str) -> str:
    return f"queue-set:{name}"


def entry_announce(*, labels: Sequence[str], position: str) -> None:
    """Correct the hint in the registry for an entry that was just committed. Costs a read, and a write where needed.

    The read comes after the commit: a claim that raises the hint later sees the entry. If this fails, polls find the
    entry when they read its set out of turn, and the sweep corrects the hint.
    """
    try:
        for _ in range(_TRIES):
            if _hint_lower(set_id(labels), position, labels):
                return
    except Unavailable as error:
        logger.warning("the hint of a label set was not corrected: %s", error.message)


def _hint_lower(name: str, position: str, labels: Sequence[str] | None = None) -> bool:
    """Make the hint at least as urgent as the position. False if the row has changed meanwhile."""
    row = QueueSet.find(SETS, name, attributes=["position", "first"])
    if row is None:
        if labels is not None:
            _set_add(labels)
        return False
    if row.hint <= position:
        return True
    try:
        row.update(actions=[QueueSet.first.set(position)], condition=QueueSet.first > position)
    except ConditionFailed:
        return False
    return True


def hints_correct(front: QueueFront, *, gone: Collection[str]) -> None:
    """Correct the hints of the sets that were read, where they mislead polls. `gone` are positions no longer waiting.

    For an agent with few sets it raises none, because its polls can read all of them.
    """
    hints = {queue_set.position: queue_set.hint for queue_set in front.sets}
    are_many = len(hints) > _SETS_WITHOUT_HINTS
    try:
        for name, entries in front.heads.items():
            first = _first_of(entries, gone, is_all=len(entries) < front.limit)
            others = (hint for other, hint in hints.items() if other != name)
            if first < hints[name]:
                _hint_lower(name, first)
            elif first > hints[name] and are_many and (first == EMPTY or min(others) < first):
                _hint_raise(name, hints[name], first)
    except Unavailable as error:
        # The jobs are claimed. A hint that is too urgent costs polls a read.
        logger.warning("the hints of label sets were not corrected: %s", error.message)


def _first_of(entries: Sequence[QueueEntry], gone: Collection[str], *, is_all: bool) -> str:
    """The most urgent position of a set that may still wait, by the entries that were read of its head."""
    waiting = (entry.position for entry in entries if entry.position not in gone)
    return next(waiting, EMPTY if is_all else entries[-1].position)


def _hint_raise(name: str, seen: str, first: str) -> None:
    """Replace the hint `seen` by a less urgent one, unless another process has changed it."""
    row = QueueSet(SETS, name)
    try:
        row.update(
            actions=[QueueSet.first.set(first)],
            condition=QueueSet.first == seen if seen else QueueSet.labels.exists() & QueueSet.first.does_not_exist(),
        )
    except ConditionFailed:
        return
    # An entry that was committed after the head was read, and announced before this write, saw the old hint.
    for entry in queue_head(name, limit=1):
        if entry.position < first:
            _hint_lower(name, entry.position)


def sets_prune(*, seconds: float = math.inf) -> int:
    """Prune label sets in which no job has waited for a while from the registry. Returns their number.

    It takes two sweeps, since a request may be about to add a job to the set: the first one marks the set, and a later
    one deletes it if it is still marked and empty after a minute. `set_register` removes the mark before it adds a job.

    It also corrects hints that would hide waiting jobs. After so many seconds it stops; the next call may reach the
    other sets, since it takes them in another order.
    """
    until = time.monotonic() + seconds
    sets = queue_registry().sets
    random.shuffle(sets)
    pruned = 0
    for queue_set in sets:
        pruned += _set_prune(queue_set)
        if time.monotonic() >= until:
            break
    return pruned


def _set_prune(queue_set: QueueSet) -> bool:
    marked = queue_set.retiring_at
    still_marked = QueueSet.retiring_at == marked if marked else QueueSet.position.exists()
    try:
        head = queue_head(queue_set.position, limit=1)
        if head:
            if head[0].position < queue_set.hint:
                _hint_lower(queue_set.position, head[0].position)
            if marked:
                queue_set.update(actions=[QueueSet.retiring_at.remove()], condition=still_marked)
        elif not marked:
            queue_set.update(actions=[QueueSet.retiring_at.set(clock.timestamp(clock.now()))], condition=still_marked)
        elif clock.now() - clock.parse_timestamp(marked) > _PRUNE_AFTER:
            queue_set.delete(condition=still_marked)
            return True
    except ConditionFailed:
        # A job uses the set again, or another sweep was faster.
        return False
    return False
