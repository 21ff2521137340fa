"""Changes of an agent's status: each is one transaction with its heartbeat, the counters and the audit event."""

from collections.abc import Sequence
from typing import Any

from apps.accounts.policies import Permission, permission_require
from apps.agents.models import Agent, FleetCounter, Heartbeat
from apps.agents.selectors import agent_get, identity_forget
from apps.agents.states import TRANSITIONS, AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Unavailable
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How often a change is tried when others change the agent at the same time.
ATTEMPTS = 5


def agent_drain(*, agent_id: str, actor: Actor) -> Agent:
    """Give the agent no new work; its running jobs go on.

    Raises Forbidden, NotFound, or Conflict when it is retired.
    """
    return _agent_become(agent_id, AgentStatus.DRAINING, actor)


def agent_resume(*, agent_id: str, actor: Actor) -> Agent:
    """Give a draining or unhealthy agent work again, as if its machine had never failed.

    A machine that still says that it is unfit becomes unhealthy again with its next heartbeat.

    Raises Forbidden, NotFound, or Conflict when it is retired.
    """
    return _agent_become(agent_id, AgentStatus.HEALTHY, actor)


def agent_retire(*, agent_id: str, actor: Actor) -> Agent:
    """Refuse the agent for good: its next heartbeat at once, other requests within a minute.

    Its jobs return to the queue when its leases expire. Raises Forbidden or NotFound.
    """
    return _agent_become(agent_id, AgentStatus.RETIRED, actor)


def _agent_become(agent_id: str, after: AgentStatus, actor: Actor) -> Agent:
    permission_require(actor, Permission.AGENTS_MANAGE)
    for _ in range(ATTEMPTS):
        agent = agent_get(agent_id)
        before = AgentStatus(agent.status)
        if before == after:
            return agent
        if after not in TRANSITIONS[before]:
            raise Conflict(f"The agent is {before} and cannot become {after}.", code=ErrorCode.AGENT_STATUS)
        tx = Transaction()
        status_move(
            tx,
            agent_id=agent_id,
            region=agent.region,
            before=before,
            after=after,
            actor=actor,
            heartbeat_actions=[Heartbeat.faults.set(0), Heartbeat.ignored.set(0)],
        )
        try:
            tx.commit()
        except TransactionFailed:
            continue
        finally:
            identity_forget(agent_id)
        agent.status = after.value
        return agent
    raise Unavailable("The agent's status is being changed. Try again.")


def status_move(
    tx: Transaction,
    *,
    agent_id: str,
    region: str,
    before: AgentStatus,
    after: AgentStatus,
    actor: Actor,
    reason: str | None = None,
    heartbeat_actions: Sequence[Any] = (),
    heartbeat_condition: Any = None,
) -> None:
    """Add a change of an agent's status to the transaction, with the agent's heartbeat under the label "heartbeat".

    `reason` says why the agent is unhealthy although it sends heartbeats. The transaction fails unless the status is
    still `before` and the heartbeat meets `heartbeat_condition`.
    """
    explained = Heartbeat.status_reason.set(reason) if reason else Heartbeat.status_reason.remove()
    tx.update("agent", Agent(agent_id), actions=[Agent.status.set(after.value)], condition=Agent.status == before.value)
    unchanged = Heartbeat.status == before.value
    tx.update(
        "heartbeat",
        Heartbeat(agent_id),
        actions=[Heartbeat.status.set(after.value), explained, *heartbeat_actions],
        condition=unchanged if heartbeat_condition is None else unchanged & heartbeat_condition,
    )
    fleet_count(tx, "fleet-before", region=region, status=before, change=-1)
    fleet_count(tx, "fleet-after", region=region, status=after, change=1)
    audit_add(
        tx,
        actor=actor,
        action=Action.AGENT_STATUS_CHANGED,
        target=f"agent:{agent_id}",
        detail={"from": before.value, "to": after.value, **({"reason": reason} if reason else {})},
    )


def fleet_count(tx: Transaction, label: str, *, region: str, status: AgentStatus, change: int) -> None:
    """Count an agent that gets (1) or loses (-1) a status, in the transaction that changes it."""
    counter = FleetCounter(key=f"{region}#{status.value}")
    tx.update(label, counter, actions=[FleetCounter.agents.add(change)])
