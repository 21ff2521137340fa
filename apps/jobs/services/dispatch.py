"""Dispatching work and commands to agents: after a heartbeat, and the next attempt after a finish."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.agents.services import Lease
from apps.agents.states import LEASE, MAX_SLOTS
from apps.jobs.models import QueueSet
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services.claims import Assignment, jobs_claim
from apps.jobs.services.leases import leases_look, looked_for
from apps.jobs.services.losses import attempt_end, attempt_expire, attempt_keep, attempt_release
from apps.jobs.states import Status
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.frozen import frozen

# An assignment that is not acknowledged is released after this time.
ACKNOWLEDGE_WITHIN = timedelta(seconds=60)

# How long an agent may take to end an attempt that is over its time limit, or to obey a cancel request.
OBEY_WITHIN = timedelta(minutes=2)

# Seconds until the agent should poll again while jobs wait that it may run; else AGENT_CHECK_SECONDS.
_BUSY_INTERVAL = 5
_JITTER = 0.2

# How many jobs one heartbeat may claim, so that it stays fast and other agents get some too.
_MOST_AT_ONCE = 4


@frozen
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
    slots: int = MAX_SLOTS,
    fresh: bool,
    takes_work: bool,
) -> Dispatch:
    """Compare the agent's running attempts with its leases, and claim jobs for its free slots.

    A leased attempt that the agent has not acknowledged is offered again, or released after a minute. An acknowledged
    attempt that the agent no longer reports is lost: the agent was restarted. An attempt that the agent reports without
    a lease must be abandoned, unless no newer one has begun. One that is over its time limit, or that was to be
    cancelled for too long, ends.

    The agent never has more than `slots` leases, whatever it reports as free. `fresh` is False for a repeated
    heartbeat, whose report may be outdated. `takes_work` is False then, and also for a draining or unhealthy agent.
    """
    named = {(entry["job_id"], entry["attempt"]): entry.get("steps") for entry in running}
    dispatch = Dispatch(next_check_interval=_interval(settings.AGENT_CHECK_SECONDS))
    ended = sum(
        _lease_follow(dispatch, agent, job_id, lease, named=named, fresh=fresh) for job_id, lease in leases.items()
    )
    unleased = [
        (job_id, attempt)
        for job_id, attempt in sorted(named)
        if job_id not in leases or leases[job_id].attempt != attempt
    ]
    for job_id, attempt in unleased:
        if fresh and attempt_keep(agent=agent, job_id=job_id, attempt=attempt):
            ended -= 1
        else:
            dispatch.commands.append(Command(job_id, attempt, "abandon"))
    if not fresh:
        return dispatch
    registry = queue_registry()
    if leases_look(row=registry.looks):
        # A requeued job may be the first of its label set.
        registry = queue_registry()
    if takes_work:
        free = min(free_slots - len(dispatch.assignments), slots - len(leases) + ended)
        _claim_for(dispatch, agent, registry.sets_for(labels), free=free, slots=slots)
    return dispatch


def _lease_follow(
    dispatch: Dispatch, agent: Actor, job_id: str, lease: Lease, *, named: Mapping[tuple[str, int], Any], fresh: bool
) -> bool:
    """What a lease means for the agent that reports the attempts in `named`. Returns whether the lease has ended."""
    attempt, age = lease.attempt, clock.now() - clock.parse_timestamp(lease.at)
    if (job_id, attempt) in named:
        is_over = _overdue_end(agent, job_id, lease, named[job_id, attempt])
        command = "abandon" if is_over else lease.command
        dispatch.commands += [Command(job_id, attempt, command)] if command else []
        return is_over
    if not lease.started and age > ACKNOWLEDGE_WITHIN:
        return attempt_release(agent_id=agent.id, job_id=job_id, attempt=attempt)
    if not lease.started:
        dispatch.assignments.append(Assignment(job_id, attempt))
    elif fresh and age > LEASE:
        reason = "the agent no longer runs it"
        return attempt_expire(agent_id=agent.id, job_id=job_id, attempt=attempt, heartbeat_at=None, reason=reason)
    return False


def _overdue_end(agent: Actor, job_id: str, lease: Lease, steps: Sequence[Mapping[str, Any]] | None) -> bool:
    """End an attempt that its agent should have ended itself by now. False for all others.

    While the control plane was away the agent could report nothing, so it then has the full time from the return on.
    """
    after, message = _overdue_as(lease)
    if after is None or not looked_for(OBEY_WITHIN):
        return False
    return attempt_end(
        agent_id=agent.id, job_id=job_id, attempt=lease.attempt, after=after, message=message, steps=steps
    )


def _overdue_as(lease: Lease) -> tuple[Status | None, str]:
    """As what an overdue attempt ends, and the message for its job; None when it is not overdue."""
    now = clock.now()
    if lease.command_at and now - clock.parse_timestamp(lease.command_at) > OBEY_WITHIN:
        return Status.CANCELLED, "The agent did not cancel the job within 2 minutes, so the control plane did."
    if lease.limit and now - clock.parse_timestamp(lease.at) > timedelta(seconds=lease.limit) + OBEY_WITHIN:
        message = f"The job exceeded its time limit of {lease.limit} s. Its agent did not stop it."
        return Status.TIMED_OUT, message
    return None, ""


def next_dispatch(
    *, agent: Actor, labels: Collection[str], slots: int = MAX_SLOTS, is_repeated: bool, wants_next: bool
) -> Assignment | None:
    """The next attempt for the slot that a finished one leaves. None when no job waits that the agent may run.

    Also None for a finish that was reported before, whose slot has had its offer, and for an agent that wants none.
    """
    if is_repeated or not wants_next:
        return None
    claimed = jobs_claim(agent=agent, sets=queue_registry().sets_for(labels), limit=1, slots=slots)
    return claimed[0] if claimed else None


def _claim_for(dispatch: Dispatch, agent: Actor, sets: Sequence[QueueSet], *, free: int, slots: int) -> None:
    if not sets:
        return
    dispatch.next_check_interval = _interval(min(_BUSY_INTERVAL, settings.AGENT_CHECK_SECONDS))
    if free > 0:
        limit = min(free, _MOST_AT_ONCE)
        dispatch.assignments += jobs_claim(agent=agent, sets=sets, limit=limit, slots=slots)


def _interval(seconds: int) -> int:
    """`seconds` plus or minus a fifth, so that agents that started together do not poll together."""
    return max(1, round(seconds * random.uniform(1 - _JITTER, 1 + _JITTER)))  # noqa: S311
