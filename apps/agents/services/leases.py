"""Which jobs an agent holds: operations on its heartbeat's item, for the transactions in which jobs change hands.

Each adds one update under the label "beat" and writes nothing itself. The caller learns from TransactionFailed's
``failed["beat"]`` what stands there: a Beat, or None when the agent is unknown.
"""

from typing import TYPE_CHECKING, Any

from apps.agents.models import Beat
from apps.agents.states import LEAVING
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

if TYPE_CHECKING:
    from pynamodb.expressions.update import Action


def held_add(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, at: str) -> None:
    """The agent holds the job from `at` (a timestamp) on, if it takes work and does not hold that job already."""
    _update(
        tx,
        agent_id,
        Beat.held[job_id].set({"attempt": attempt, "at": at, "started": False}),
        Beat.agent_id.exists() & Beat.held[job_id].does_not_exist() & ~Beat.status.is_in(*LEAVING),
    )


def held_start(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """The agent, which must hold the attempt, has acknowledged it and runs it from now on."""
    started = {"attempt": attempt, "at": clock.timestamp(clock.now()), "started": True}
    _update(tx, agent_id, Beat.held[job_id].set(started), _holds(job_id, attempt))


def held_remove(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """The agent holds the attempt no longer; it must hold it until now."""
    _update(tx, agent_id, Beat.held[job_id].remove(), _holds(job_id, attempt))


def held_remove_expired(tx: Transaction, *, agent_id: str, job_id: str, attempt: int, beat_at: str) -> None:
    """The same for a lease that ran out, but only if no heartbeat came since `beat_at` (`Beat.at` as it was read)."""
    _update(tx, agent_id, Beat.held[job_id].remove(), _holds(job_id, attempt) & (Beat.at == beat_at))


def held_wish_cancel(tx: Transaction, *, agent_id: str, job_id: str, attempt: int) -> None:
    """The agent, which must hold the attempt, is told at its next word to cancel it."""
    _update(tx, agent_id, Beat.held[job_id]["wish"].set("cancel"), _holds(job_id, attempt))


def _holds(job_id: str, attempt: int) -> Any:
    return Beat.held[job_id]["attempt"] == attempt


def _update(tx: Transaction, agent_id: str, action: "Action", condition: Any) -> None:
    tx.update("beat", Beat(agent_id), actions=[action], condition=condition)
