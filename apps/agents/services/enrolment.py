"""Enrolment: tokens, and the agents that machines become with them."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from apps.accounts.policies import Permission, permission_require
from apps.agents.models import Agent, EnrolmentReceipt, EnrolmentToken, Heartbeat
from apps.agents.selectors import keys_alive
from apps.agents.services.keys import AgentCredentials, key_make
from apps.agents.services.lifecycle import fleet_count
from apps.agents.states import AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotAuthenticated
from controlplane.lib.ids import new_id
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

PREFIX = "hce_"
_FORM = re.compile(r"hce_[A-Za-z0-9_-]{43}")
MAX_USES = 100_000

# For how long a machine that repeats its enrolment gets the same answer.
RECEIPT_LIFETIME = timedelta(hours=24)


def enrolment_token_create(*, uses: int, expires_at: datetime, actor: Actor) -> tuple[EnrolmentToken, str]:
    """Make a token that enrols `uses` agents until `expires_at`; returns it with its secret, which is not stored.

    Raises Forbidden without the permission ``agents.enrol``, InvalidInput (field "uses" or "expires_at").
    """
    permission_require(actor, Permission.AGENTS_ENROL)
    if not 1 <= uses <= MAX_USES:
        raise InvalidInput.field("uses", f"must be from 1 to {MAX_USES}")
    if expires_at <= clock.now():
        raise InvalidInput.field("expires_at", "must be in the future")
    secret = PREFIX + secrets.token_urlsafe(32)
    token = EnrolmentToken(
        _hash(secret),
        token_id=new_id(),
        uses_left=uses,
        created_by=actor.id,
        created_at=clock.timestamp(clock.now()),
        # DynamoDB's TTL has whole seconds.
        expires_at=expires_at.replace(microsecond=0),
    )
    tx = Transaction()
    tx.put("token", token)
    audit_add(
        tx,
        actor=actor,
        action=Action.ENROLMENT_TOKEN_CREATED,
        target=f"enrolment_token:{token.token_id}",
        detail={"uses": uses, "expires_at": clock.timestamp(token.expires_at)},
    )
    tx.commit()
    return token, secret


def enrolment_token_revoke(*, token: EnrolmentToken, actor: Actor) -> None:
    """Delete the token, so that it enrols no more agents. The agents that it has enrolled stay.

    A token that is gone already is no error. Raises Forbidden without the permission ``agents.enrol``.
    """
    permission_require(actor, Permission.AGENTS_ENROL)
    tx = Transaction()
    tx.delete("token", EnrolmentToken(token.hash))
    audit_add(
        tx,
        actor=actor,
        action=Action.ENROLMENT_TOKEN_REVOKED,
        target=f"enrolment_token:{token.token_id}",
        detail={"uses_left": int(token.uses_left)},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        # The token expired or was revoked in the meantime.
        if "token" not in error.failed:
            raise


def agent_enrol(
    *,
    token: str,
    name: str,
    region: str,
    labels: Sequence[str],
    slots: int,
    hostname: str = "",
    os: str = "",
    arch: str = "",
    version: str = "",
    idempotency_key: str | None = None,
) -> AgentCredentials:
    """Exchange a valid token for a new agent. The values must have been validated.

    The same token and `idempotency_key` again give the same agent and key, for 24 hours and until the agent has used
    the key.

    Raises NotAuthenticated (``enrolment_token_invalid``, ``enrolment_token_expired``, ``enrolment_token_used``), or
    Conflict (``already_enrolled``) for an enrolment that is repeated too late.
    """
    found = EnrolmentToken.find(_hash(token)) if _FORM.fullmatch(token) else None
    if found is None:
        raise _token_error(None)
    now = clock.now()
    agent_id = new_id()
    key, credentials = key_make(agent_id)
    agent = Agent(
        agent_id,
        name=name,
        name_key=search_key(name),
        region=region,
        labels=list(dict.fromkeys(labels)),
        slots=slots,
        status=AgentStatus.HEALTHY.value,
        hostname=hostname,
        os=os,
        arch=arch,
        version=version,
        keys=[key],
        created_at=clock.timestamp(now),
    )
    tx = Transaction()
    tx.update(
        "token",
        EnrolmentToken(found.hash),
        actions=[EnrolmentToken.uses_left.add(-1)],
        condition=(EnrolmentToken.uses_left > 0) & (EnrolmentToken.expires_at > now),
    )
    tx.put("agent", agent)
    tx.put("heartbeat", Heartbeat(agent_id, at=agent.created_at, status=agent.status))
    if idempotency_key is not None:
        receipt = EnrolmentReceipt(
            _receipt_hash(token, idempotency_key), agent_id=agent_id, expires_at=now + RECEIPT_LIFETIME
        )
        tx.put("receipt", receipt)
    fleet_count(tx, "fleet", region=region, status=AgentStatus.HEALTHY, change=1)
    audit_add(
        tx,
        actor=Actor(kind="agent", id=agent_id, name=name),
        action=Action.AGENT_ENROLLED,
        target=f"agent:{agent_id}",
        detail={"token": found.token_id, "region": region},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        earlier = error.failed.get("receipt")
        if isinstance(earlier, EnrolmentReceipt):
            # The machine repeats its enrolment, for which the token may have been used up.
            return _enrolled_before(earlier)
        if "token" not in error.failed:
            raise
        current = error.failed["token"]
        raise _token_error(current if isinstance(current, EnrolmentToken) else None) from error
    return credentials


def _enrolled_before(receipt: EnrolmentReceipt) -> AgentCredentials:
    agent = Agent.find(receipt.agent_id)
    keys = keys_alive(agent) if agent is not None and receipt.expires_at > clock.now() else ()
    if len(keys) != 1 or keys[0].used:
        raise Conflict(
            "This machine is enrolled already. To enrol it as another agent, send another Idempotency-Key.",
            code=ErrorCode.ALREADY_ENROLLED,
        )
    return AgentCredentials(receipt.agent_id, keys[0].key_id, keys[0].secret)


def _token_error(token: EnrolmentToken | None) -> NotAuthenticated:
    if token is None:
        return NotAuthenticated(
            "There is no such enrolment token. Ask for a new one.", code=ErrorCode.ENROLMENT_TOKEN_INVALID
        )
    if token.expires_at <= clock.now():
        return NotAuthenticated(
            "This enrolment token has expired. Ask for a new one.", code=ErrorCode.ENROLMENT_TOKEN_EXPIRED
        )
    return NotAuthenticated(
        "This enrolment token has no uses left. Ask for a new one.", code=ErrorCode.ENROLMENT_TOKEN_USED
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _receipt_hash(token: str, idempotency_key: str) -> str:
    return _hash(f"receipt\n{token}\n{idempotency_key}")
