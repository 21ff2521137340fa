"""Enrolment tokens: users make and revoke them, and set what the agents of a token may be."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from apps.accounts.policies import Permission, permission_require
from apps.agents.models import EnrolmentToken
from apps.agents.selectors import REGION
from apps.agents.states import MAX_SLOTS
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import new_id
from controlplane.lib.labels import agent_labels_check, targets_check
from controlplane.nosql.transaction import Transaction, TransactionFailed

PREFIX = "hce_"
MAX_USES = 100_000
MAX_NAME = 100
MAX_REGIONS = 20


def enrolment_token_create(
    *,
    uses: int,
    expires_at: datetime,
    actor: Actor,
    name: str = "",
    labels: Sequence[str] = (),
    regions: Sequence[str] = (),
    slots: int | None = None,
    deployment_targets: Sequence[str] = (),
) -> tuple[EnrolmentToken, str]:
    """Make a token that enrols `uses` agents until `expires_at`; returns it with its secret, which is not stored.

    Its agents may have these labels, regions and at most so many slots; without a value, any. They get the deployment
    targets.

    Raises Forbidden without the permission ``agents.enrol``, InvalidInput that names the argument.
    """
    permission_require(actor, Permission.AGENTS_ENROL)
    if not 1 <= uses <= MAX_USES:
        raise InvalidInput.field("uses", f"must be from 1 to {MAX_USES}")
    if expires_at <= clock.now():
        raise InvalidInput.field("expires_at", "must be in the future")
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must be one line of at most {MAX_NAME} printable characters")
    if slots is not None and not 1 <= slots <= MAX_SLOTS:
        raise InvalidInput.field("slots", f"must be from 1 to {MAX_SLOTS}")
    secret = PREFIX + secrets.token_urlsafe(32)
    token = EnrolmentToken(
        token_hash(secret),
        token_id=new_id(),
        name=name.strip(),
        uses=uses,
        uses_left=uses,
        labels=agent_labels_check(labels),
        regions=_regions_check(regions),
        slots=slots,
        deployment_targets=targets_check(deployment_targets),
        created_by=actor.id,
        created_at=clock.timestamp(clock.now()),
        # DynamoDB's TTL has whole seconds.
        expires_at=expires_at.replace(microsecond=0),
    )
    detail: dict[str, str | int | None] = {
        "name": token.name,
        "uses": uses,
        "expires_at": clock.timestamp(token.expires_at),
        "labels": ", ".join(token.labels),
        "regions": ", ".join(token.regions),
        "slots": slots,
        "deployment_targets": ", ".join(token.deployment_targets),
    }
    tx = Transaction()
    tx.put("token", token)
    audit_add(
        tx,
        actor=actor,
        action=Action.ENROLMENT_TOKEN_CREATED,
        target=f"enrolment_token:{token.token_id}",
        detail={name: value for name, value in detail.items() if value},
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
        detail={"name": token.name, "uses_left": int(token.uses_left)},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        # The token expired or was revoked in the meantime.
        if "token" not in error.failed:
            raise


def token_hash(secret: str) -> str:
    """The SHA-256 of a secret, by which its item is found."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _regions_check(regions: Sequence[str]) -> list[str]:
    kept = list(dict.fromkeys(regions))
    if len(kept) > MAX_REGIONS:
        raise InvalidInput.field("regions", f"must have at most {MAX_REGIONS} entries")
    for region in kept:
        if not REGION.fullmatch(region):
            raise InvalidInput.field("regions", f"“{region[:63]}” must be 1 to 63 letters, digits and . _ -")
    return kept
