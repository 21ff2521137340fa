"""The keys that agents sign with: 256 bits each, stored encrypted, at most two valid at a time."""

import secrets
from dataclasses import field

from apps.accounts.policies import Permission, permission_require
from apps.agents.models import Agent, AgentKey
from apps.agents.selectors import agent_get, identity_forget, key_context
from apps.agents.services.lifecycle import ATTEMPTS
from apps.agents.states import AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import encrypt
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Unavailable
from controlplane.lib.frozen import frozen
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

KEY_BYTES = 32


@frozen
class AgentCredentials:
    """What an agent needs to sign its requests."""

    agent_id: str
    key_id: str
    secret: bytes = field(repr=False)


def key_make(agent_id: str, *, key_id: str | None = None) -> tuple[AgentKey, AgentCredentials]:
    """A new key as it is stored and as the agent gets it. Its id is the agent's, a point and 8 hexadecimal digits."""
    key_id = key_id or f"{agent_id}.{secrets.token_hex(4)}"
    secret = secrets.token_bytes(KEY_BYTES)
    key = AgentKey(  # type: ignore[no-untyped-call]
        key_id=key_id,
        encrypted=encrypt(secret, context=key_context(agent_id, key_id)),
        created_at=clock.timestamp(clock.now()),
        used=False,
    )
    return key, AgentCredentials(agent_id, key_id, secret)


def agent_key_rotate(*, agent_id: str, actor: Actor, immediate: bool = False) -> AgentCredentials:
    """Give the agent a new key, which it fetches with its configuration; the one it uses stays valid for 24 hours.

    With `immediate`, for a key that has leaked, all others end at once (within a minute in other processes): an admin
    must give the agent the new one by hand, or enrol it again.

    Raises Forbidden, NotFound, or Conflict when it is retired.
    """
    permission_require(actor, Permission.AGENTS_MANAGE)
    for _ in range(ATTEMPTS):
        agent = agent_get(agent_id)
        if agent.status == AgentStatus.RETIRED:
            raise Conflict("The agent is retired and needs no key.", code=ErrorCode.AGENT_RETIRED)
        key, credentials = key_make(agent_id)
        # The agent has the newest key that it ever used, or else the one from its enrolment.
        kept = [] if immediate else [next((old for old in agent.keys if old.used), agent.keys[0])]
        newest = agent.keys[0]
        tx = Transaction()
        tx.update(
            "agent",
            Agent(agent_id),
            actions=[Agent.keys.set([key, *kept]), Agent.config_version.add(1)],
            condition=(Agent.keys[0]["key_id"] == newest.key_id)
            & (Agent.keys[0]["used"] == newest.used)
            & (Agent.status != AgentStatus.RETIRED.value),
        )
        audit_add(
            tx,
            actor=actor,
            action=Action.AGENT_KEY_ROTATED,
            target=f"agent:{agent_id}",
            detail={"key_id": credentials.key_id, "immediate": str(immediate).lower()},
        )
        try:
            tx.commit()
        except TransactionFailed:
            continue
        finally:
            identity_forget(agent_id)
        return credentials
    raise Unavailable("The agent's keys are being changed. Try again.")


def agent_key_mark_used(*, agent_id: str, key_id: str) -> None:
    """Record that the agent has signed with the key, which its configuration then no longer shows.

    Writes at most once for each key.
    """
    try:
        for _ in range(ATTEMPTS):
            keys = agent_get(agent_id).keys
            position = next((number for number, key in enumerate(keys) if key.key_id == key_id), None)
            if position is None or keys[position].used:
                return
            stored = Agent.keys[position]
            try:
                Agent(agent_id).update(actions=[stored["used"].set(True)], condition=stored["key_id"] == key_id)
            except ConditionFailed:
                continue
            return
    finally:
        identity_forget(agent_id)
    raise Unavailable("The agent's keys are being changed. Try again.")
