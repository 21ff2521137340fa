"""Deleting agents that were retired long ago, so that they cost nothing for ever."""

import logging
from collections.abc import Iterator
from datetime import timedelta

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors import fleet_heartbeats, fleet_place, identity_forget
from apps.agents.services.lifecycle import fleet_count
from apps.agents.services.portions import portion
from apps.agents.states import AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.listing import Place
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# How long a retired agent is kept, so that its requests get an answer that says why they are refused.
KEPT_FOR = timedelta(days=30)


def retired_agents_delete(*, seconds: float) -> int:
    """Delete agents that were retired 30 days ago, with heartbeat and keys. Returns their number.

    An agent's time begins when this finds it retired. An agent with leases stays until they have expired. It takes at
    most so many seconds, and the next call goes on where this one stopped.
    """
    deleted = 0
    agents = portion("retired_agents_delete", _retired, lambda part: fleet_place(part[1], part[0]), seconds=seconds)
    for region, heartbeat in agents:
        if not heartbeat.retired_at:
            _mark(heartbeat)
        elif clock.now() - clock.parse_timestamp(heartbeat.retired_at) > KEPT_FOR and not heartbeat.leases:
            deleted += _delete(heartbeat.agent_id, region)
    return deleted


def _retired(start: Place | None) -> Iterator[tuple[str, Heartbeat]]:
    """The heartbeats of the retired agents with their region."""
    for region, heartbeats in fleet_heartbeats(start, status=AgentStatus.RETIRED):
        yield from ((region, heartbeat) for heartbeat in heartbeats)


def _mark(heartbeat: Heartbeat) -> None:
    try:
        heartbeat.update(
            actions=[Heartbeat.retired_at.set(clock.timestamp(clock.now()))],
            condition=(Heartbeat.status == AgentStatus.RETIRED.value) & Heartbeat.retired_at.does_not_exist(),
        )
    except ConditionFailed:
        # Another process was faster.
        return


def _delete(agent_id: str, region: str) -> bool:
    agent = Agent.find(agent_id)
    transaction = Transaction()
    transaction.delete("agent", Agent(agent_id), Agent.status == AgentStatus.RETIRED.value)
    transaction.delete("heartbeat", Heartbeat(agent_id), Heartbeat.status == AgentStatus.RETIRED.value)
    fleet_count(transaction, "fleet", region=region, status=AgentStatus.RETIRED, change=-1)
    audit_add(
        transaction,
        actor=SYSTEM,
        action=Action.AGENT_DELETED,
        target=f"agent:{agent_id}",
        detail={"name": agent.name if agent else None, "region": region},
    )
    try:
        transaction.commit()
    except TransactionFailed:
        # Another process was faster.
        return False
    identity_forget(agent_id)
    logger.info("a retired agent was deleted", extra={"agent_id": agent_id, "region": region})
    return True
