"""Writing targets: where messages go."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from apps.notifications.models import TARGETS, Rule, Target
from apps.notifications.policies import notifications_manage_require
from apps.notifications.selectors.targets import (
    rule_list,
    rules_forget,
    target_context,
    target_get,
    target_list,
)
from apps.notifications.senders.addresses import Address, address_validate
from apps.notifications.services.encryption import address_encrypt
from apps.notifications.states import TargetKind
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import decrypt
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.lib.ids import new_id
from controlplane.lib.webhook_signature import webhook_secret_new
from controlplane.nosql.transaction import Transaction, TransactionFailed

# One happening writes its messages to all targets by one transaction.
MAX_TARGETS = 40
MAX_NAME = 64
MAX_OVERLAP_HOURS = 7 * 24


def target_create(
    *,
    actor: Actor,
    name: str,
    kind: TargetKind,
    url: str = "",
    emails: Sequence[str] = (),
    secret: str | None = None,
) -> tuple[Target, str | None]:
    """Make a target. Returns it, and the secret that signs its messages if it is a webhook: nothing shows it again.

    `secret` is one of the receiver's; None for a new one. Raises Forbidden, InvalidInput, Unavailable, and Conflict
    with the code ``too_many_notification_targets``.
    """
    notifications_manage_require(actor)
    _name_validate(name)
    if len(target_list()) >= MAX_TARGETS:
        raise Conflict(
            f"There are {MAX_TARGETS} notification targets already. Delete one.",
            code=ErrorCode.TOO_MANY_NOTIFICATION_TARGETS,
        )
    if kind == TargetKind.WEBHOOK and secret is None:
        secret = webhook_secret_new()
    address = address_validate(kind, url=url, emails=emails, secret=secret)
    target_id, now = new_id(), clock.timestamp(clock.now())
    target = Target(
        TARGETS,
        target_id,
        name=name,
        kind=kind,
        shown=address.shown,
        encrypted=address_encrypt(address, target_id=target_id),
        created_at=now,
        created_by=actor.name,
        changed_at=now,
        changed_by=actor.name,
    )
    transaction = Transaction()
    transaction.put("target", target)
    _audit(transaction, target, actor, Action.NOTIFICATION_TARGET_CREATED, _described(target))
    transaction.commit()
    return target, secret if kind == TargetKind.WEBHOOK else None


def target_change(
    *,
    actor: Actor,
    target_id: str,
    name: str | None = None,
    url: str | None = None,
    emails: Sequence[str] | None = None,
    revision: int | None = None,
) -> Target:
    """Change the name or the address of a target; None: it stays. With `revision`, only if it still has this one.

    Raises Forbidden, NotFound, InvalidInput, Unavailable, and Conflict with the code ``changed_meanwhile``.
    """
    notifications_manage_require(actor)
    current = target_get(target_id)
    if revision is not None and revision != current.revision:
        raise _changed_meanwhile()
    changes: dict[str, Any] = {"name": current.name if name is None else _name_validate(name)}
    if url or emails:
        kept = _address_of(current)
        fresh = address_validate(TargetKind(current.kind), url=url or "", emails=emails or (), secret=None)
        address = Address(url=fresh.url, emails=fresh.emails, secrets=kept.secrets)
        if address.as_json() != kept.as_json():
            changes |= {"shown": address.shown, "encrypted": address_encrypt(address, target_id=target_id)}
    if all(getattr(current, member) == value for member, value in changes.items()):
        return current
    described = changes_detail(_described(current), {**_described(current), **_described(Target(**changes), changes)})
    if "encrypted" in changes and "shown" not in described:
        described["address"] = "changed"
    return _change(current, actor, changes, Action.NOTIFICATION_TARGET_CHANGED, described)


def target_secret_rotate(*, actor: Actor, target_id: str, overlap_hours: int = 24) -> tuple[Target, str]:
    """Give a webhook a new secret. Messages have a signature by the old one, too, for so many hours.

    Returns the target and the new secret, which nothing shows again. Raises Forbidden, NotFound, InvalidInput,
    Unavailable, and Conflict with the code ``not_a_webhook`` or ``changed_meanwhile``.
    """
    notifications_manage_require(actor)
    if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
        raise InvalidInput.field("overlap_hours", f"must be 0 to {MAX_OVERLAP_HOURS}")
    current = target_get(target_id)
    if current.kind != TargetKind.WEBHOOK:
        raise Conflict("Only webhooks have a secret. Change the address instead.", code=ErrorCode.NOT_A_WEBHOOK)
    kept, secret = _address_of(current), webhook_secret_new()
    address = Address(url=kept.url, secrets=[secret, *kept.secrets[:1]])
    until = clock.now() + timedelta(hours=overlap_hours)
    changes = {"encrypted": address_encrypt(address, target_id=target_id), "overlap_until": clock.timestamp(until)}
    detail = {"overlap_hours": overlap_hours}
    return _change(current, actor, changes, Action.NOTIFICATION_TARGET_SECRET_ROTATED, detail), secret


def target_delete(*, actor: Actor, target_id: str) -> None:
    """Delete the target and its rules. Messages that wait for it are not sent. Raises Forbidden, NotFound."""
    notifications_manage_require(actor)
    target = target_get(target_id)
    transaction = Transaction()
    transaction.delete("target", target, Target.target_id.exists())
    for rule in rule_list():
        if rule.target_id == target_id:
            there_or_not = Rule.rule_id.exists() | Rule.rule_id.does_not_exist()
            transaction.delete(f"rule {rule.rule_id}", rule, there_or_not)
    _audit(transaction, target, actor, Action.NOTIFICATION_TARGET_DELETED, _described(target))
    try:
        transaction.commit()
    except TransactionFailed:
        # Another request has deleted it at the same moment.
        target_get(target_id)
    rules_forget()


def _change(
    current: Target, actor: Actor, changes: Mapping[str, Any], action: Action, detail: Mapping[str, Any]
) -> Target:
    stamped = {**changes, "changed_at": clock.timestamp(clock.now()), "changed_by": actor.name}
    transaction = Transaction()
    transaction.update(
        "target",
        current,
        actions=[*(getattr(Target, name).set(value) for name, value in stamped.items()), Target.revision.add(1)],
        condition=Target.revision == current.revision,
    )
    _audit(transaction, current, actor, action, detail)
    with suppress(TransactionFailed):
        transaction.commit()
        return target_get(str(current.target_id))
    target_get(str(current.target_id))
    raise _changed_meanwhile()


def _changed_meanwhile() -> Conflict:
    return Conflict(
        "Another user changed this target in the meantime. Check it and save again.", code=ErrorCode.CHANGED_MEANWHILE
    )


def _address_of(target: Target) -> Address:
    """The address with all of its secrets."""
    return Address.of_json(json.loads(decrypt(str(target.encrypted), context=target_context(str(target.target_id)))))


def _name_validate(name: str) -> str:
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must be 1 to {MAX_NAME} characters in one line")
    return name


def _described(target: Target, members: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The target for an audit event, or those of these members; never its address."""
    shown = ("name", "kind", "shown")
    return {name: str(getattr(target, name)) for name in shown if members is None or name in members}


def _audit(
    transaction: Transaction, target: Target, actor: Actor, action: Action, detail: Mapping[str, Any] | None
) -> None:
    audit_add(transaction, actor=actor, action=action, target=f"notification_target:{target.target_id}", detail=detail)
