"""Expiring the leases of agents that send no heartbeats.

An agent's silence counts only while other agents are heard: after a time in which no agent could reach the control
plane, every lease gets a full period first. Agents' polls show that they can; the row `LEASES` of the registry has
them.
"""

import logging
import math
import random
import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from apps.agents.selectors import silent_heartbeats
from apps.agents.services import Lease
from apps.agents.states import LEASE
from apps.jobs.models import LEASES, SETS, QueueSet
from apps.jobs.selectors.queue import looks_row
from apps.jobs.services.losses import attempt_expire
from apps.jobs.states import REASON_SILENT
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import ItemTooLarge

logger = logging.getLogger(__name__)

# How often it is noted that agents poll, all processes together: more often than one idle agent polls, so that each
# poll of a lone agent is noted. A longer time than the gap between two notes shows that no agent could poll.
_NOTE_EVERY = timedelta(seconds=10)
_GAP = timedelta(seconds=30)

# How often the agents' polls search for expired leases, all processes together. The lease, this interval and a poll
# together stay below the 90 seconds within which the job of a killed agent must be queued again.
_SEARCH_EVERY = timedelta(seconds=20)

# For how long no agent is heard before the sweep expires leases all the same, so that no job runs for ever on paper.
UNHEARD_LIMIT = timedelta(minutes=10)
# A sweep runs each minute. After a longer pause without any sweep or poll, the control plane itself was away.
_SWEEP_GAP = timedelta(seconds=150)

# For how long a poll expires leases, since its agent waits for the answer. The sweep and later polls go on.
_SEARCH_SECONDS = 2


def leases_expire(*, seconds: float = math.inf) -> int:
    """Expire the leases of silent agents, in a sweep. Returns their number.

    It takes about so many seconds at most, and leaves the other leases to the next sweep. While no agent polls,
    nothing expires for up to `UNHEARD_LIMIT`.
    """
    row, now = looks_row(), clock.now()
    if _is_within(_gap(), _moment(row, "looked_at"), now):
        return _expire(heard_since=_moment(row, "resumed_at"), now=now, seconds=seconds)
    try:
        resumed_at = _sweep_note(row, now)
    except ConditionFailed:
        # An agent polls meanwhile, or another sweep was faster.
        return 0
    unheard_since = _latest(_moment(row, "looked_at"), resumed_at)
    if unheard_since is not None and now - unheard_since > UNHEARD_LIMIT:
        return _expire(heard_since=None, now=now, seconds=seconds)
    return 0


def leases_look(*, row: QueueSet | None) -> int:
    """Note that an agent polls, and expire leases between two sweeps. `row` is the registry's row about that.

    It does nothing if another poll was noted just before, or is faster.
    """
    now = clock.now()
    looked_at, resumed_at = _moment(row, "looked_at"), _moment(row, "resumed_at")
    if _is_within(_NOTE_EVERY, looked_at, now):
        return 0
    actions: list[Any] = [QueueSet.looked_at.set(clock.timestamp(now))]
    searches = not _is_within(_SEARCH_EVERY, _moment(row, "searched_at"), now)
    if searches:
        actions.append(QueueSet.searched_at.set(clock.timestamp(now)))
    if not _is_within(_gap(), looked_at, now):
        resumed_at = now
        actions.append(QueueSet.resumed_at.set(clock.timestamp(now)))
    try:
        QueueSet(SETS, LEASES).update(actions=actions, condition=_as_seen(row))
        return _expire(heard_since=resumed_at, now=now, seconds=_SEARCH_SECONDS) if searches else 0
    except (ConditionFailed, Unavailable):
        # Another poll was faster, or DynamoDB failed. Neither must fail the agent's request, since the sweep searches
        # too.
        return 0


def agents_mark(*, seconds: float = math.inf) -> int:
    """Mark the agents that are silent, in a sweep of at most so many seconds. Returns how many were marked.

    After the control plane was away, their silence counts from its return on.
    """
    # Only the sweep comes here: no cold start shall load it.
    from apps.agents.services import agents_mark_silent

    row, now = looks_row(), clock.now()
    heard_since = now if row is not None and _was_away(row, now) else _moment(row, "resumed_at")
    return agents_mark_silent(heard_since=heard_since, seconds=seconds)


def looked_for(duration: timedelta) -> bool:
    """Whether agents have been heard without a gap for at least this long: they had that time to report. One call."""
    row, now = looks_row(), clock.now()
    resumed_at = _moment(row, "resumed_at")
    if resumed_at is None or not _is_within(_gap(), _moment(row, "looked_at"), now):
        return False
    return now - resumed_at >= duration


def _sweep_note(row: QueueSet | None, now: datetime) -> datetime | None:
    """Note that a sweep finds no polls. Returns since when polls could have come. Raises ConditionFailed."""
    resumed_at = _moment(row, "resumed_at")
    actions: list[Any] = [QueueSet.swept_at.set(clock.timestamp(now))]
    if _was_away(row, now):
        resumed_at = now
        actions.append(QueueSet.resumed_at.set(clock.timestamp(now)))
    QueueSet(SETS, LEASES).update(actions=actions, condition=_as_seen(row))
    return resumed_at


def _was_away(row: QueueSet | None, now: datetime) -> bool:
    """Whether neither a sweep nor a poll has run for so long that the control plane itself was away."""
    return not _is_within(_SWEEP_GAP, _latest(_moment(row, "looked_at"), _moment(row, "swept_at")), now)


def _expire(*, heard_since: datetime | None, now: datetime, seconds: float) -> int:
    """Expire the leases of agents that are silent for longer than a lease since `heard_since`. Returns their number."""
    if heard_since is not None and now - heard_since <= LEASE:
        return 0
    until, expired = time.monotonic() + seconds, 0
    silent = silent_heartbeats(heard_since=heard_since)
    # Two searches at the same time rarely meet, and a lease that cannot expire does not hold up the others.
    random.shuffle(silent)
    for heartbeat in silent:
        for job_id, lease in heartbeat.leases.items():
            expired += _lease_expire(heartbeat.agent_id, heartbeat.at, job_id, lease)
            if time.monotonic() >= until:
                return expired
    return expired


def _lease_expire(agent_id: str, heartbeat_at: str, job_id: str, lease: Lease) -> bool:
    reason = f"{REASON_SILENT}{LEASE.seconds} s"
    try:
        return attempt_expire(
            agent_id=agent_id, job_id=job_id, attempt=lease.attempt, heartbeat_at=heartbeat_at, reason=reason
        )
    except ItemTooLarge:
        # One job must not hold up the others for ever.
        logger.exception("a lease was not expired", extra={"job_id": job_id})
        return False


def _gap() -> timedelta:
    """The longest time between two notes of polls in which no agent was kept from polling."""
    return max(_GAP, timedelta(seconds=2 * settings.AGENT_CHECK_SECONDS))


def _is_within(limit: timedelta, moment: datetime | None, now: datetime) -> bool:
    """Whether `moment` is at most `limit` ago. A moment in the future is not: a clock was set back."""
    return moment is not None and timedelta(0) <= now - moment <= limit


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _moment(row: QueueSet | None, name: str) -> datetime | None:
    text = getattr(row, name) if row is not None else None
    return clock.parse_timestamp(text) if text else None


def _as_seen(row: QueueSet | None) -> Any:
    """The condition that no poll has noted anything since the row was read."""
    if row is None or row.looked_at is None:
        return QueueSet.looked_at.does_not_exist()
    return QueueSet.looked_at == row.looked_at
