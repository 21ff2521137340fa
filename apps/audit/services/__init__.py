"""Recording audit events. Nothing else writes to the trail, and nothing changes or deletes an event."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings

from apps.audit.actions import Action
from apps.audit.models import SHARDS, AuditRecord, is_crowd, principal_of, shard_key
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from controlplane.lib.work import current_work
from controlplane.nosql.transaction import Transaction

# A usual event is smaller than 1 KB (two write units in a transaction). These limits apply to all input of clients.
MAX_TEXT = 200
MAX_DETAILS = 12
_MAX_SHOWN = 90


def audit_add(
    tx: Transaction,
    *,
    actor: Actor,
    action: Action,
    target: str,
    result: str = "ok",
    detail: Mapping[str, str | int | None] | None = None,
    label: str = "audit",
) -> None:
    """Add an audit event to the transaction of the change that it records, so that both are written or neither.

    `target` is the changed object, as ``kind:id``. Where strangers can cause any number of events, the id is
    ``unknown`` or the kind ``email``, whose events an index splits. `detail` is small, for people, and never contains
    a secret. Texts are cut to 200 characters. Two events of a transaction need two labels.
    Raises ValueError for more than 12 details.
    """
    tx.put(label, audit_event(actor=actor, action=action, target=target, result=result, detail=detail))


def audit_event(
    *,
    actor: Actor,
    action: Action,
    target: str,
    result: str = "ok",
    detail: Mapping[str, str | int | None] | None = None,
) -> AuditRecord:
    """The event that `audit_add` writes, of this moment and request, with the keys of all its indexes."""
    moment = clock.now()
    now = clock.timestamp(moment)
    if detail and len(detail) > MAX_DETAILS:
        raise ValueError(f"an audit event must have at most {MAX_DETAILS} details")
    shard = secrets.randbelow(SHARDS)
    target = _cut(target)
    work = current_work()
    principal = principal_of(actor.kind, actor.id, actor.owner_id)
    return AuditRecord(
        day=shard_key(now[:10], shard),
        entry=shard_key(f"{now}#{new_id()}", shard),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=_cut(actor.name),
        action=action.value,
        target=target,
        result=_cut(result),
        detail={key: _cut(value) if isinstance(value, str) else value for key, value in detail.items()}
        if detail
        else None,
        address=_cut(work.client()) or None if work and work.client else None,
        session=work.session if work else None,
        request_id=_cut(work.request_id) if work else None,
        about=shard_key(target, shard) if is_crowd(target) else target,
        actor_key=shard_key(principal, shard) if is_crowd(principal) else principal,
        action_key=shard_key(action.value, shard),
        expires_at=_expiry(action, moment),
    )


def changes_detail(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """What a change of settings has changed, for `detail`: each changed member as ``old → new``.

    Both have the same members. A list is shown with commas, and nothing as “none”.
    """
    return {name: f"{_shown(before[name])} → {_shown(value)}" for name, value in after.items() if before[name] != value}


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else str(value)
    if value is None or not text:
        return "none"
    # The other value must be seen, too.
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _expiry(action: Action, moment: datetime) -> datetime | None:
    if not settings.AUDIT_RETENTION:
        return None
    from apps.audit.retention import expiry

    return expiry(action, moment)


def _cut(text: str) -> str:
    """The text, cut to MAX_TEXT characters. Lone surrogates, which UTF-8 cannot encode, become question marks."""
    text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()
