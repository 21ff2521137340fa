"""Enrolment: the agents that machines become with an enrolment token, and never more than the token allows."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from apps.agents.models import Agent, EnrolmentReceipt, EnrolmentToken, Heartbeat
from apps.agents.selectors import keys_alive
from apps.agents.services.enrolment_tokens import token_hash
from apps.agents.services.keys import AgentCredentials, key_make
from apps.agents.services.lifecycle import fleet_count
from apps.agents.states import AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, NotAuthenticated
from controlplane.lib.ids import new_id
from controlplane.lib.labels import CONTAINER_LABEL
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

_FORM = re.compile(r"hce_[A-Za-z0-9_-]{43}")

# For how long a machine that repeats its enrolment gets the same answer.
RECEIPT_LIFETIME = timedelta(hours=24)


def enrolment_token_require(token: str) -> None:
    """Raise NotAuthenticated ``enrolment_token_invalid`` unless a token with this secret is stored.

    This costs one read for a text of the right form and none for any other. A token without uses passes: a machine may
    repeat its enrolment with it.
    """
    if not _FORM.fullmatch(token) or EnrolmentToken.find(token_hash(token)) is None:
        raise _token_error(None)


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

    Without labels, the agent gets those of the token. Its deployment targets are the token's. The same token and
    `idempotency_key` again give the same agent and key, for 24 hours and until the agent has used the key.

    Raises NotAuthenticated (``enrolment_token_invalid``, ``enrolment_token_expired``, ``enrolment_token_used``),
    Forbidden (``enrolment_beyond_token``) whose errors say what the token allows, or Conflict (``already_enrolled``)
    for an enrolment that is repeated too late.
    """
    found = EnrolmentToken.find(token_hash(token)) if _FORM.fullmatch(token) else None
    if found is None:
        raise _token_error(None)
    now = clock.now()
    _bounds_require(found, labels=labels, region=region, slots=slots)
    agent_id = new_id()
    key, credentials = key_make(agent_id)
    agent = Agent(
        agent_id,
        name=name,
        name_key=search_key(name),
        region=region,
        labels=_labels_granted(found, labels),
        slots=slots,
        deployment_targets=list(found.deployment_targets),
        status=AgentStatus.HEALTHY.value,
        hostname=hostname,
        os=os,
        arch=arch,
        version=version,
        keys=[key],
        created_at=clock.timestamp(now),
        token_id=found.token_id,
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


def _bounds_require(token: EnrolmentToken, *, labels: Sequence[str], region: str, slots: int) -> None:
    """Raises Forbidden that names each field which asks for more than the token allows, and what it allows."""
    errors: list[dict[str, Any]] = []
    beyond = {*labels} - {*token.labels, CONTAINER_LABEL}
    if token.labels and beyond:
        allowed = ", ".join(token.labels)
        errors.append({"field": "labels", "message": f"must be among {allowed}, without {', '.join(sorted(beyond))}"})
    if token.regions and region not in token.regions:
        errors.append({"field": "region", "message": f"must be {' or '.join(token.regions)}"})
    if token.slots is not None and slots > token.slots:
        errors.append({"field": "slots", "message": f"must be at most {int(token.slots)}"})
    if not errors:
        return
    if token.expires_at <= clock.now() or token.uses_left <= 0:
        raise _token_error(token)
    raise Forbidden(
        "This enrolment token does not allow what the machine asks for.",
        code=ErrorCode.ENROLMENT_BEYOND_TOKEN,
        errors=errors,
    )


def _labels_granted(token: EnrolmentToken, labels: Sequence[str]) -> list[str]:
    """The labels of an agent that asks for these, which the token allows; without a request, all of the token.

    The agent program itself adds `CONTAINER_LABEL` if its machine can run containers. So this label counts as no
    request, and an agent gets it only if it asks for it and the token allows it.
    """
    if not token.labels:
        return list(dict.fromkeys(labels))
    chosen = [label for label in labels if label != CONTAINER_LABEL]
    granted = chosen or [label for label in token.labels if label != CONTAINER_LABEL]
    runs_containers = CONTAINER_LABEL in labels and CONTAINER_LABEL in token.labels
    return list(dict.fromkeys([*granted, *([CONTAINER_LABEL] if runs_containers else [])]))


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


def _receipt_hash(token: str, idempotency_key: str) -> str:
    return token_hash(f"receipt\n{token}\n{idempotency_key}")
