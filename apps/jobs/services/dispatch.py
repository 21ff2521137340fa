"""Dispatching work and commands to agents: after a heartbeat, and the next attempt after a finish."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.agents.services import Lease
from apps.agents.states import LEASE
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services.claims import Assignment, jobs_claim
from apps.jobs.services.leases import leases_look
from apps.jobs.services.losses import attempt_expire, attempt_release
from controlplane.lib import clock
from controlplane.lib.actor import Actor

# An assignment that is not acknowledged is released after this time.
ACKNOWLEDGE_WITHIN = timedelta(seconds=60)

# Seconds until the agent should poll again while jobs wait that it may run; else AGENT_CHECK_SECONDS.
_BUSY_INTERVAL = 5
_JITTER = 0.2

# How many jobs one heartbeat may claim, so that it stays fast and other agents get some too.
_MOST_AT_ONCE = 4


@dataclass(frozen=True)
class Command:
    """A command for an attempt that the agent runs: ``cancel`` it, or ``abandon`` it, since the agent has lost it."""

    job_id: str
    attempt: int
    command: str

    def as_dict(self) -> dict[str, str | int]:
        return {"job_id": self.job_id, "attempt": self.attempt, "wish": self.command}


@dataclass
class Dispatch:
    """The part of a heartbeat's answer about work. `next_check_interval` is in seconds."""

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
    """Compare the agent's running attempts with its leases, and claim jobs for its free slots.

    A leased attempt that the agent has not acknowledged is offered again, or released after a minute. An acknowledged
    attempt that the agent no longer reports is lost: the agent was restarted. An attempt that the agent reports without
    a lease must be abandoned. `fresh` is False for a repeated heartbeat, whose report may be outdated. `takes_work` is
    False then, and also for a draining agent.
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


def next_dispatch(*, agent: Actor, labels: Collection[str], is_repeated: bool, wants_next: bool) -> Assignment | None:
    """The next attempt for the slot that a finished one leaves. None when no job waits that the agent may run.

    Also None for a finish that was reported before, whose slot has had its offer, and for an agent that wants none.
    """
    if is_repeated or not wants_next:
        return None
    claimed = jobs_claim(agent=agent, sets=queue_registry().sets_for(labels), limit=1)
    return claimed[0] if claimed else None


def _claim_for(dispatch: Dispatch, agent: Actor, labels: Collection[str], slots: int) -> None:
    registry = queue_registry()
    if leases_look(looked_at=registry.looked_at):
        # A requeued job may be the first of its label set.
        registry = queue_registry()
    sets = registry.sets_for(labels)
    if not sets:
        return
    dispatch.next_check_interval = _interval(min(_BUSY_INTERVAL, settings.AGENT_CHECK_SECONDS))
    if slots > 0:
        dispatch.assignments += jobs_claim(agent=agent, sets=sets, limit=min(slots, _MOST_AT_ONCE))


def _interval(seconds: int) -> int:
    """`seconds` plus or minus a fifth, so that agents that started together do not poll together."""
    return max(1, round(seconds * random.uniform(1 - _JITTER, 1 + _JITTER)))  # noqa: S311
