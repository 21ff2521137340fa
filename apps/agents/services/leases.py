"""Which jobs an agent holds: operations on its heartbeat's item, for the transactions in which jobs change hands.

Each adds one update under the label "heartbeat" and writes nothing itself. The caller learns from TransactionFailed's
``failed["heartbeat"]`` what stands there: a Heartbeat, or None when the agent is unknown.
"""

from typing import TYPE_CHECKING, Any

from apps.agents.models import Heartbeat
from apps.agents.states import LEAVING
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

if TYPE_CHECKING:
    from pynamodb.expressions.update import Action


def lease_add(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, at: str) -> None:
    """The agent holds the job from `at` (a timestamp) on, if it takes work and does not hold that job already."""
    _update(
        tx,
        agent_id,
        Heartbeat.lease_map[job_id].set({"attempt": attempt, "at": at, "started": False}),
        Heartbeat.agent_id.exists() & Heartbeat.lease_map[job_id].does_not_exist() & ~Heartbeat.status.is_in(*LEAVING),
    )


def lease_start(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """The agent, which must hold the attempt, has acknowledged it and runs it from now on."""
    started = {"attempt": attempt, "at": clock.timestamp(clock.now()), "started": True}
    _update(tx, agent_id, Heartbeat.lease_map[job_id].set(started), _holds(job_id, attempt))


def lease_remove(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """The agent holds the attempt no longer; it must hold it until now."""
    _update(tx, agent_id, Heartbeat.lease_map[job_id].remove(), _holds(job_id, attempt))


def lease_remove_expired(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, heartbeat_at: str) -> None:
    """The same for an expired lease, but only if no heartbeat came since `heartbeat_at` (`Heartbeat.at` when read)."""
    _update(
        tx, agent_id, Heartbeat.lease_map[job_id].remove(), _holds(job_id, attempt) & (Heartbeat.at == heartbeat_at)
    )


def lease_request_cancel(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """The agent, which must hold the attempt, is told at its next word to cancel it."""
    _update(tx, agent_id, Heartbeat.lease_map[job_id]["wish"].set("cancel"), _holds(job_id, attempt))


def _holds(job_id: str, attempt: int) -> Any:
    return Heartbeat.lease_map[job_id]["attempt"] == attempt


def _update(tx: Transaction, agent_id: str, action: "Action", condition: Any) -> None:
    tx.update("heartbeat", Heartbeat(agent_id), actions=[action], condition=condition)
