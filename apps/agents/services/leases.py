"""Leases on jobs: operations on the agent's heartbeat item, for the transactions that assign, start and end jobs.

Each adds one update under the label "heartbeat" and writes nothing itself. When its condition fails, TransactionFailed
has the current item in ``failed["heartbeat"]``: a Heartbeat, or None when there is no such agent.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from apps.agents.models import Heartbeat
from apps.agents.states import LEAVING
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.nosql.transaction import Transaction


class End(StrEnum):
    """What the end of a lease says about the agent's machine."""

    # The attempt has run to its end.
    RAN = "ran"
    # The machine failed, not the job.
    FAULT = "fault"
    # The agent was offered the attempt and did not start it.
    IGNORED = "ignored"
    OTHER = "other"


@frozen
class LeaseEnd:
    """How a lease ends. `reason` is the machine's failure.

    With `heartbeat_at`, the lease ends only if the agent has sent no heartbeat since then.
    """

    kind: End = End.OTHER
    reason: str = ""
    heartbeat_at: str | None = None


PLAIN_END = LeaseEnd()


def lease_add(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, at: str, slots: int) -> None:
    """Lease the job to the agent from `at` (a timestamp) on.

    Only if the agent takes work, has no lease on the job yet and has fewer leases than `slots`.
    """
    is_fit = ~Heartbeat.status.is_in(*LEAVING) & Heartbeat.status_reason.does_not_exist()
    takes_work = Heartbeat.agent_id.exists() & is_fit
    _update(
        tx,
        agent_id,
        [Heartbeat.lease_map[job_id].set({"attempt": attempt, "at": at, "started": False})],
        takes_work & Heartbeat.lease_map[job_id].does_not_exist() & Heartbeat.has_room(slots),
    )


def lease_start(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, limit: int) -> None:
    """Mark the agent's lease on the attempt as started, with a time limit in seconds."""
    started = {"attempt": attempt, "at": clock.timestamp(clock.now()), "started": True, "limit": limit}
    _update(
        tx,
        agent_id,
        [Heartbeat.lease_map[job_id].set(started), Heartbeat.ignored.set(0)],
        _is_leased(job_id, attempt),
    )


def lease_restore(
    tx: Transaction,
    *,
    agent_id: str,
    job_id: str,
    attempt: int,
    at: str,
    started: bool = True,
    limit: int | None = None,
    command: str | None = None,
) -> None:
    """Lease the attempt to the agent that has had it since `at`, although the lease was lost meanwhile.

    `limit` is the time limit in seconds, `command` a command that the agent must get.
    """
    lease: dict[str, Any] = {"attempt": attempt, "at": at, "started": started}
    if limit is not None:
        lease["limit"] = limit
    if command is not None:
        lease |= {"wish": command, "wish_at": clock.timestamp(clock.now())}
    condition = Heartbeat.agent_id.exists() & Heartbeat.lease_map[job_id].does_not_exist()
    _update(tx, agent_id, [Heartbeat.lease_map[job_id].set(lease)], condition)


def lease_limit(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, limit: int) -> None:
    """Set the time limit of the agent's attempt, in seconds from its start on."""
    _update(tx, agent_id, [Heartbeat.lease_map[job_id]["limit"].set(limit)], _is_leased(job_id, attempt))


def lease_remove(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, end: LeaseEnd = PLAIN_END) -> None:
    """Remove the agent's lease on the attempt, which must exist, and note what its end says about the machine."""
    condition = _is_leased(job_id, attempt)
    if end.heartbeat_at is not None:
        condition &= Heartbeat.at == end.heartbeat_at
    _update(tx, agent_id, [Heartbeat.lease_map[job_id].remove(), *_notes(end)], condition)


def lease_request_cancel(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """Have the agent, which must have a lease on the attempt, cancel it: its next answers say so."""
    lease = Heartbeat.lease_map[job_id]
    actions = [lease["wish"].set("cancel"), lease["wish_at"].set(clock.timestamp(clock.now()))]
    _update(tx, agent_id, actions, _is_leased(job_id, attempt))


def _notes(end: LeaseEnd) -> list[Any]:
    now = clock.timestamp(clock.now())
    match end.kind:
        case End.RAN:
            return [Heartbeat.faults.set(0), *Heartbeat.end_note(clock.epoch())]
        case End.FAULT:
            return [Heartbeat.faults.add(1), Heartbeat.fault_at.set(now), Heartbeat.fault_reason.set(end.reason)]
        case End.IGNORED:
            return [Heartbeat.ignored.add(1), Heartbeat.ignored_at.set(now)]
        case _:
            return []


def _is_leased(job_id: str, attempt: int) -> Any:
    return Heartbeat.lease_map[job_id]["attempt"] == attempt


def _update(tx: Transaction, agent_id: str, actions: Sequence[Any], condition: Any) -> None:
    tx.update("heartbeat", Heartbeat(agent_id), actions=actions, condition=condition)
