"""The configuration of agents, which people change and agents fetch."""

from collections.abc import Sequence
from typing import Any

from apps.accounts.policies import Permission, permission_require
from apps.agents.models import Agent
from apps.agents.selectors import agent_get, identity_forget
from apps.agents.states import MAX_SLOTS
from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.lib.labels import agent_labels_check, targets_check
from controlplane.nosql.transaction import Transaction, TransactionFailed


def agent_configure(
    *,
    agent_id: str,
    labels: Sequence[str],
    slots: int,
    deployment_targets: Sequence[str],
    config_version: int,
    actor: Actor,
) -> Agent:
    """Change an agent that `actor` has read at `config_version`; it fetches its configuration at its next heartbeat.

    Raises Forbidden, InvalidInput (field "labels", "slots" or "deployment_targets"), NotFound, and Conflict
    ``changed_meanwhile`` when the agent has another `config_version` by now.
    """
    permission_require(actor, Permission.AGENTS_MANAGE)
    current = agent_get(agent_id)
    if int(current.config_version) != config_version:
        raise _changed_meanwhile()
    wanted: dict[str, Any] = {
        # An agent keeps what it got under an earlier rule.
        "labels": agent_labels_check(labels, known=current.labels),
        "slots": _slots_checked(slots),
        "deployment_targets": targets_check(deployment_targets, known=current.deployment_targets),
    }
    changes = {member: value for member, value in wanted.items() if getattr(current, member) != value}
    if not changes:
        return current
    tx = Transaction()
    tx.update(
        "agent",
        Agent(agent_id),
        actions=[
            *(getattr(Agent, member).set(value) for member, value in changes.items()),
            Agent.config_version.set(config_version + 1),
        ],
        condition=Agent.config_version == config_version,
    )
    audit_add(
        tx,
        actor=actor,
        action=Action.AGENT_CONFIGURED,
        target=f"agent:{agent_id}",
        detail=changes_detail({member: getattr(current, member) for member in changes}, changes),
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        if "agent" not in error.failed:
            raise
        if error.failed["agent"] is None:
            raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND) from error
        raise _changed_meanwhile() from error
    finally:
        identity_forget(agent_id)
    return agent_get(agent_id)


def _slots_checked(slots: int) -> int:
    if not 1 <= slots <= MAX_SLOTS:
        raise InvalidInput.field("slots", f"must be from 1 to {MAX_SLOTS}")
    return slots


def _changed_meanwhile() -> Conflict:
    return Conflict("The agent was changed in the meantime. Load it again.", code=ErrorCode.CHANGED_MEANWHILE)
