"""Leases on jobs: operations on the agent's heartbeat item, for the transactions that assign, start and end jobs.

Each adds one update under the label "heartbeat" and writes nothing itself. When its condition fails, TransactionFailed
has the current item in ``failed["heartbeat"]``: a Heartbeat, or None when there is no such agent.
"""

from typing import Any

from apps.agents.models import Heartbeat
from apps.agents.states import LEAVING
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction


def lease_add(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, at: str) -> None:
    """Lease the job to the agent from `at` (a timestamp) on, if the agent takes work and has no lease on it yet."""
    _update(
        tx,
        agent_id,
        Heartbeat.lease_map[job_id].set({"attempt": attempt, "at": at, "started": False}),
        Heartbeat.agent_id.exists() & Heartbeat.lease_map[job_id].does_not_exist() & ~Heartbeat.status.is_in(*LEAVING),
    )


def lease_start(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """Mark the agent's lease on the attempt as started."""
    started = {"attempt": attempt, "at": clock.timestamp(clock.now()), "started": True}
    _update(tx, agent_id, Heartbeat.lease_map[job_id].set(started), _is_leased(job_id, attempt))


def lease_remove(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """Remove the agent's lease on the attempt, which must exist."""
    _update(tx, agent_id, Heartbeat.lease_map[job_id].remove(), _is_leased(job_id, attempt))


def lease_remove_expired(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, heartbeat_at: str) -> None:
    """Remove an expired lease, if no heartbeat came since `heartbeat_at` (`Heartbeat.at` when it was read)."""
    _update(
        tx, agent_id, Heartbeat.lease_map[job_id].remove(), _is_leased(job_id, attempt) & (Heartbeat.at == heartbeat_at)
    )


def lease_restore(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, started: bool, command: str) -> None:
    """Add a lease that a restore has lost, from now on, whatever the agent's status. `command` may be empty."""
    lease = {"attempt": attempt, "at": clock.timestamp(clock.now()), "started": started}
    lost = Heartbeat.lease_map[job_id]
    is_lost = Heartbeat.agent_id.exists() & lost.does_not_exist()
    _update(tx, agent_id, lost.set({**lease, "wish": command} if command else lease), is_lost)


def lease_request_cancel(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """Have the agent, which must have a lease on the attempt, cancel it: its next answers say so."""
    _update(tx, agent_id, Heartbeat.lease_map[job_id]["wish"].set("cancel"), _is_leased(job_id, attempt))


def _is_leased(job_id: str, attempt: int) -> Any:
    return Heartbeat.lease_map[job_id]["attempt"] == attempt


def _update(tx: Transaction, agent_id: str, action: Any, condition: Any) -> None:
    tx.update("heartbeat", Heartbeat(agent_id), actions=[action], condition=condition)
