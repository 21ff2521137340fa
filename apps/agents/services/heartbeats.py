"""Recording heartbeats: one conditional write each, so that an older heartbeat never replaces a newer one."""

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

# The signature's time has whole seconds. The nonces tell up to so many heartbeats of one second apart.
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
    """The agent's item after a heartbeat. `fresh` is False for a repeated one, which has changed nothing."""

    heartbeat: Heartbeat
    fresh: bool


def heartbeat_record(*, agent_id: str, report: dict[str, Any], created: int, nonce: str) -> HeartbeatResult:
    """Record a heartbeat; `report` is the result of `heartbeat_report`, `created` and `nonce` are the signature's.

    Costs one write unit. An unhealthy or dead agent becomes healthy again. A repeated heartbeat, whether a replay or
    a retry after a lost answer, changes nothing.

    Raises Forbidden (``agent_retired``), Conflict (``heartbeat_out_of_order``: a later one is recorded already),
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
    """Record a heartbeat for which the usual condition did not hold: find out why, and write or refuse accordingly."""
    for _ in range(ATTEMPTS):
        current = Heartbeat.find(agent_id)
        if current is None:
            raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
        if current.status == AgentStatus.RETIRED:
            raise Forbidden(
                "This agent is retired. Enrol the machine again with a new token.", code=ErrorCode.AGENT_RETIRED
            )
        if current.created > created:
            raise Conflict("A later heartbeat is recorded already.", code=ErrorCode.HEARTBEAT_OUT_OF_ORDER)
        if current.created == created and nonce in current.nonces:
            # With this very `at`, our own write was recorded and only the answer to it was lost.
            return HeartbeatResult(current, fresh=current.at == at)
        if current.created == created and len(current.nonces) >= MAX_HEARTBEATS_A_SECOND:
            raise TooManyRequests(
                f"More than {MAX_HEARTBEATS_A_SECOND} heartbeats in one second. Wait a second.", retry_after=1
            )
        if current.created == created:
            room = Heartbeat.nonces[MAX_HEARTBEATS_A_SECOND - 1].does_not_exist()
            condition = (Heartbeat.created == created) & ~Heartbeat.nonces.contains(nonce) & room
            nonces = Heartbeat.nonces.set(Heartbeat.nonces.append([nonce]))
        else:
            condition = Heartbeat.created < created
            nonces = Heartbeat.nonces.set([nonce])
        try:
            heartbeat = _write(current, [*actions, nonces], condition)
        except (ConditionFailed, TransactionFailed):
            continue
        return HeartbeatResult(heartbeat, fresh=True)
    raise Unavailable("Too many heartbeats of this agent at once. Try again.")


def _write(current: Heartbeat, actions: list[Any], condition: Any) -> Heartbeat:
    if current.status not in SILENT:
        heartbeat = Heartbeat(current.agent_id)
        heartbeat.update(actions=actions, condition=condition & _awake())
        return heartbeat
    return _awaken(current, actions, condition)


def _awaken(current: Heartbeat, actions: list[Any], condition: Any) -> Heartbeat:
    """Record the heartbeat of an unhealthy or dead agent, which makes it healthy."""
    agent_id = current.agent_id
    agent = Agent.find(agent_id)
    if agent is None:
        raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
    tx = Transaction()
    status_move(
        tx,
        agent_id=agent_id,
        region=agent.region,
        before=AgentStatus(current.status),
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
