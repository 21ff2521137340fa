"""What an agent is offered: work and commands after a heartbeat, the next attempt after a finish."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.agents.services import Lease
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services.claims import Assignment, jobs_claim
from apps.jobs.services.leases import LEASE, leases_look
from apps.jobs.services.losses import attempt_expire, attempt_release
from controlplane.lib import clock
from controlplane.lib.actor import Actor

# An assignment that is not acknowledged is released after this time.
ACKNOWLEDGE_WITHIN = timedelta(seconds=60)

# Seconds until the agent should poll again when work of its kind waits; else AGENT_CHECK_SECONDS.
_BUSY_INTERVAL = 5
_JITTER = 0.2

# How many jobs one heartbeat may take, so that it stays quick and other agents get some too.
_MOST_AT_ONCE = 4


@dataclass(frozen=True)
class Command:
    """What an agent must do with an attempt that it runs: ``cancel`` it, or ``abandon`` it as another agent's."""

    job_id: str
    attempt: int
    command: str

    def as_dict(self) -> dict[str, str | int]:
        return {"job_id": self.job_id, "attempt": self.attempt, "wish": self.command}


@dataclass
class Dispatch:
    """The answer to a heartbeat. `next_check_interval` is in seconds."""

    next_check_interval: int
    assignments: list[Assignment] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


def work_dispatch(
    *,
    agent: Actor,
    labels: Collection[str],
    leases: Mapping[str, Lease],
    running: Sequence[Mapping[str, Any]],
    free_slots: int,
    fresh: bool,
    takes_work: bool,
) -> Dispatch:
    """Compare what the agent runs with its leases, and give it work for its free slots.

    A leased attempt that it has not acknowledged is offered again, or released after a minute. One that it acknowledged
    and no longer names is lost: the agent was restarted. One that it names without a lease belongs to another agent.
    `fresh` is False for a repeated heartbeat, which does not say what runs now; then, and for an agent that drains,
    `takes_work` is False.
    """
    named = {(entry["job_id"], entry["attempt"]) for entry in running}
    dispatch = Dispatch(next_check_interval=_interval(settings.AGENT_CHECK_SECONDS))
    for job_id, lease in leases.items():
        attempt, age = lease.attempt, clock.now() - clock.parse_timestamp(lease.at)
        if (job_id, attempt) in named:
            if lease.command:
                dispatch.commands.append(Command(job_id, attempt, lease.command))
        elif not lease.started:
            if age > ACKNOWLEDGE_WITHIN:
                attempt_release(agent_id=agent.id, job_id=job_id, attempt=attempt)
            else:
                dispatch.assignments.append(Assignment(job_id, attempt))
        elif fresh and age > LEASE:
            reason = "the agent no longer runs it"
            attempt_expire(agent_id=agent.id, job_id=job_id, attempt=attempt, heartbeat_at=None, reason=reason)
    dispatch.commands += [
        Command(job_id, attempt, "abandon")
        for job_id, attempt in sorted(named)
        if job_id not in leases or leases[job_id].attempt != attempt
    ]
    if takes_work:
        _claim_for(dispatch, agent, labels, free_slots - len(dispatch.assignments))
    return dispatch


def next_dispatch(*, agent: Actor, labels: Collection[str]) -> Assignment | None:
    """The next attempt for the slot that a finished one leaves, or None when no work of the agent's kind waits."""
    claimed = jobs_claim(agent=agent, set_ids=queue_registry().sets_for(labels), limit=1)
    return claimed[0] if claimed else None


def _claim_for(dispatch: Dispatch, agent: Actor, labels: Collection[str], slots: int) -> None:
    registry = queue_registry()
    leases_look(looked_at=registry.looked_at)
    set_ids = registry.sets_for(labels)
    if not set_ids:
        return
    dispatch.next_check_interval = _interval(min(_BUSY_INTERVAL, settings.AGENT_CHECK_SECONDS))
    if slots > 0:
        dispatch.assignments += jobs_claim(agent=agent, set_ids=set_ids, limit=min(slots, _MOST_AT_ONCE))


def _interval(seconds: int) -> int:
    """`seconds` plus or minus a fifth, so that agents that started together do not poll together."""
    return max(1, round(seconds * random.uniform(1 - _JITTER, 1 + _JITTER)))  # noqa: S311
