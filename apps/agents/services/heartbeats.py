"""Taking heartbeats: one conditional write each, under which time moves only forward."""

from dataclasses import dataclass
from typing import Any

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors import identity_forget
from apps.agents.services.lifecycle import ATTEMPTS, status_move
from apps.agents.states import SILENT, AgentStatus
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, NotFound, TooManyRequests, Unavailable
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# The signature's time has whole seconds; so many heartbeats of one second are told apart by their nonces.
MAX_HEARTBEATS_A_SECOND = 20

_REPORTED = (
    "cpu_percent",
    "memory_percent",
    "disk_percent",
    "jobs_queued",
    "jobs_completed",
    "uptime_seconds",
    "free_slots",
    "running",
)


@dataclass(frozen=True)
class HeartbeatResult:
    """The agent's item after a heartbeat. `fresh` is False for one that was taken before: it has changed nothing."""

    heartbeat: Heartbeat
    fresh: bool


def heartbeat_record(*, agent_id: str, report: dict[str, Any], created: int, nonce: str) -> HeartbeatResult:
    """Take a heartbeat; `report` is what `heartbeat_report` gave, `created` and `nonce` are its signature's.

    Costs one write unit. An agent that was silent becomes healthy again. A heartbeat that was taken before, be it a
    replay or a retry after a lost answer, changes nothing.

    Raises Forbidden (``agent_retired``), Conflict (``heartbeat_out_of_order``: a later one has been taken),
    TooManyRequests (more than 20 in a second) and NotFound (``agent_not_found``).
    """
    at = clock.timestamp(clock.now())
    reported = [getattr(Heartbeat, name).set(report[name]) for name in _REPORTED]
    actions = [Heartbeat.created.set(created), Heartbeat.at.set(at), *reported]
    heartbeat = Heartbeat(agent_id)
    first = [*actions, Heartbeat.nonces.set([nonce])]
    try:
        heartbeat.update(actions=first, condition=(Heartbeat.created < created) & _awake())
    except ConditionFailed:
        return _record_otherwise(agent_id, actions, created=created, nonce=nonce, at=at)
    return HeartbeatResult(heartbeat, fresh=True)


def _awake() -> Any:
    return Heartbeat.status.is_in(AgentStatus.HEALTHY.value, AgentStatus.DRAINING.value)


def _record_otherwise(agent_id: str, actions: list[Any], *, created: int, nonce: str, at: str) -> HeartbeatResult:
    """The same for a heartbeat that is not simply the next one: find out why, and do what is right then."""
    for _ in range(ATTEMPTS):
        standing = Heartbeat.find(agent_id)
        if standing is None:
            raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
        if standing.status == AgentStatus.RETIRED:
            raise Forbidden("This agent is retired.", code=ErrorCode.AGENT_RETIRED)
        if standing.created > created:
            raise Conflict("A later heartbeat has been taken.", code=ErrorCode.HEARTBEAT_OUT_OF_ORDER)
        if standing.created == created and nonce in standing.nonces:
            # Ours, by its moment: it was written, and the answer to that was lost on the way to us.
            return HeartbeatResult(standing, fresh=standing.at == at)
        if standing.created == created and len(standing.nonces) >= MAX_HEARTBEATS_A_SECOND:
            raise TooManyRequests("So many heartbeats in one second are too many.", retry_after=1)
        if standing.created == created:
            room = Heartbeat.nonces[MAX_HEARTBEATS_A_SECOND - 1].does_not_exist()
            condition = (Heartbeat.created == created) & ~Heartbeat.nonces.contains(nonce) & room
            nonces = Heartbeat.nonces.set(Heartbeat.nonces.append([nonce]))
        else:
            condition = Heartbeat.created < created
            nonces = Heartbeat.nonces.set([nonce])
        try:
            heartbeat = _write(standing, [*actions, nonces], condition)
        except (ConditionFailed, TransactionFailed):
            continue
        return HeartbeatResult(heartbeat, fresh=True)
    raise Unavailable("Too many heartbeats of this agent at once. Please try again.")


def _write(standing: Heartbeat, actions: list[Any], condition: Any) -> Heartbeat:
    if standing.status not in SILENT:
        heartbeat = Heartbeat(standing.agent_id)
        heartbeat.update(actions=actions, condition=condition & _awake())
        return heartbeat
    return _awaken(standing, actions, condition)


def _awaken(standing: Heartbeat, actions: list[Any], condition: Any) -> Heartbeat:
    """Take the heartbeat of an agent that was silent, which makes it healthy."""
    agent_id = standing.agent_id
    agent = Agent.find(agent_id)
    if agent is None:
        raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
    tx = Transaction()
    status_move(
        tx,
        agent_id=agent_id,
        region=agent.region,
        before=AgentStatus(standing.status),
        after=AgentStatus.HEALTHY,
        actor=Actor(kind="agent", id=agent_id, name=agent.name),
        heartbeat_actions=actions,
        heartbeat_condition=condition,
    )
    tx.commit()
    identity_forget(agent_id)
    heartbeat = Heartbeat.find(agent_id)
    if heartbeat is None:
        raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
    return heartbeat
