"""Recording heartbeats: one conditional write each, so that an older heartbeat never replaces a newer one."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors import identity_forget
from apps.agents.services.fitness import unfit_reason
from apps.agents.services.lifecycle import ATTEMPTS, status_move
from apps.agents.states import LEASE, SILENT, AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, NotFound, TooManyRequests, Unavailable
from controlplane.lib.frozen import frozen
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# The signature's time has whole seconds. The nonces distinguish up to so many heartbeats of one second.
MAX_HEARTBEATS_A_SECOND = 20

# How often the audit trail records that another machine uses an agent's identity, at most.
_COPY_NOTICED_EVERY = timedelta(hours=1)

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


@frozen
class HeartbeatResult:
    """The agent's item after a heartbeat. `fresh` is False for a repeated one, which has changed nothing."""

    heartbeat: Heartbeat
    fresh: bool


def heartbeat_record(*, agent_id: str, report: dict[str, Any], created: int, nonce: str) -> HeartbeatResult:
    """Record a heartbeat; `report` is the result of `heartbeat_report`, `created` and `nonce` are the signature's.

    Costs one write unit. An unhealthy or dead agent becomes healthy again, and an agent whose machine is unfit becomes
    or stays unhealthy. A repeated heartbeat, whether a replay or a retry after a lost answer, changes nothing.

    Raises Forbidden (``agent_retired``), Conflict (``heartbeat_out_of_order``: a later one is recorded already;
    ``identity_in_use``: another machine sends heartbeats as this agent), TooManyRequests (more than 20 in a second) and
    NotFound (``agent_not_found``).
    """
    at = clock.timestamp(clock.now())
    reported = [getattr(Heartbeat, name).set(report[name]) for name in _REPORTED]
    machine = [getattr(Heartbeat, name).set(report[name]) for name in ("boot_id", "hostname") if report.get(name)]
    actions = [Heartbeat.created.set(created), Heartbeat.at.set(at), *reported, *machine]
    heartbeat = Heartbeat(agent_id)
    first = [*actions, Heartbeat.nonces.set([nonce])]
    try:
        heartbeat.update(actions=first, condition=(Heartbeat.created < created) & _awake() & _is_same_machine(report))
    except ConditionFailed:
        return _record_otherwise(agent_id, actions, report=report, created=created, nonce=nonce, at=at)
    return HeartbeatResult(_fitness_follow(heartbeat, report), fresh=True)


def _awake() -> Any:
    return Heartbeat.status.is_in(AgentStatus.HEALTHY.value, AgentStatus.DRAINING.value)


def _is_same_machine(report: Mapping[str, Any]) -> Any:
    """The condition that the last heartbeat came from the machine of this report, as far as both are known."""
    condition = Heartbeat.agent_id.exists()
    for attribute in (Heartbeat.boot_id, Heartbeat.hostname):
        reported = report.get(str(attribute.attr_name))
        if reported:
            condition &= attribute.does_not_exist() | (attribute == reported)
    return condition


def _fitness_follow(heartbeat: Heartbeat, report: Mapping[str, Any]) -> Heartbeat:
    """Mark a healthy agent unhealthy whose machine is unfit. Returns its item after that."""
    reason = unfit_reason(heartbeat, report)
    if reason is None or heartbeat.status != AgentStatus.HEALTHY:
        return heartbeat
    try:
        return _status_write(heartbeat, [], Heartbeat.created == heartbeat.created, reason=reason)
    except TransactionFailed:
        # A later heartbeat, or a person, has changed the agent meanwhile, and decides.
        return Heartbeat.find(str(heartbeat.agent_id)) or heartbeat


def _machine_require(current: Heartbeat, report: Mapping[str, Any]) -> None:
    """Raises Conflict when another machine has sent a heartbeat as this agent within the last lease."""
    known = {name: getattr(current, name) for name in ("boot_id", "hostname")}
    reported = {name: report.get(name) for name in known}
    differs = any(reported[name] and known[name] and reported[name] != known[name] for name in known)
    if not differs or clock.now() - clock.parse_timestamp(current.at) > LEASE:
        return
    first, second = known["hostname"] or "an unnamed machine", reported["hostname"] or "an unnamed machine"
    _copy_notice(current, first=first, second=second)
    raise Conflict(
        f"Two machines use the identity of this agent: {first} has it, and {second} asks for it. If {second} is a "
        f"copy, delete its state directory and enrol it anew. After a restart, wait for {LEASE.seconds} s.",
        code=ErrorCode.IDENTITY_IN_USE,
    )


def _copy_notice(current: Heartbeat, *, first: str, second: str) -> None:
    """Record in the audit trail that another machine uses the agent's identity, unless it was recorded lately."""
    noticed_at, now = current.copy_noticed_at, clock.now()
    if noticed_at is not None and now - clock.parse_timestamp(noticed_at) < _COPY_NOTICED_EVERY:
        return
    tx = Transaction()
    tx.update(
        "heartbeat",
        Heartbeat(current.agent_id),
        actions=[Heartbeat.copy_noticed_at.set(clock.timestamp(now))],
        condition=Heartbeat.copy_noticed_at == noticed_at if noticed_at else Heartbeat.copy_noticed_at.does_not_exist(),
    )
    audit_add(
        tx,
        actor=Actor(kind="agent", id=str(current.agent_id), name=second),
        action=Action.AGENT_IDENTITY_COPIED,
        target=f"agent:{current.agent_id}",
        result="refused",
        detail={"hostname": first, "other_hostname": second},
    )
    with suppress(TransactionFailed):
        # When it fails, another request has recorded it.
        tx.commit()


def _record_otherwise(
    agent_id: str, actions: list[Any], *, report: Mapping[str, Any], created: int, nonce: str, at: str
) -> HeartbeatResult:
    """Record a heartbeat for which the usual condition did not hold: find out why, and write or refuse accordingly."""
    for _ in range(ATTEMPTS):
        current = Heartbeat.find(agent_id)
        if current is None:
            raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
        if current.status == AgentStatus.RETIRED:
            raise Forbidden(
                "This agent is retired. Enrol the machine again with a new token.", code=ErrorCode.AGENT_RETIRED
            )
        _machine_require(current, report)
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
            heartbeat = _write(current, [*actions, nonces], condition, report=report)
        except (ConditionFailed, TransactionFailed):
            continue
        return HeartbeatResult(heartbeat, fresh=True)
    raise Unavailable("Too many heartbeats of this agent at once. Try again.")


def _write(current: Heartbeat, actions: list[Any], condition: Any, *, report: Mapping[str, Any]) -> Heartbeat:
    reason = unfit_reason(current, report)
    if current.status == AgentStatus.UNHEALTHY and reason:
        actions = [*actions, Heartbeat.status_reason.set(reason)]
    elif current.status in SILENT:
        return _status_write(current, actions, condition, reason=reason)
    heartbeat = Heartbeat(current.agent_id)
    heartbeat.update(actions=actions, condition=condition & (Heartbeat.status == current.status))
    return _fitness_follow(heartbeat, report)


def _status_write(current: Heartbeat, actions: list[Any], condition: Any, *, reason: str | None) -> Heartbeat:
    """Record a heartbeat that makes the agent healthy or, with a reason, unhealthy. Returns the item after that.

    Raises TransactionFailed.
    """
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
        after=AgentStatus.UNHEALTHY if reason else AgentStatus.HEALTHY,
        actor=Actor(kind="agent", id=agent_id, name=agent.name),
        reason=reason,
        heartbeat_actions=actions,
        heartbeat_condition=condition,
    )
    tx.commit()
    identity_forget(agent_id)
    heartbeat = Heartbeat.find(agent_id)
    if heartbeat is None:
        raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
    return heartbeat
