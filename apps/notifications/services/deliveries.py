"""Sending messages to targets: the outbox gives each to `delivery_send`, in order for each target."""

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.notifications.models import Delivery, OutboxItem, Target
from apps.notifications.policies import notifications_manage_require
from apps.notifications.selectors.deliveries import delivery_find, delivery_get
from apps.notifications.selectors.targets import target_address, target_find, target_get
from apps.notifications.senders.messages import Message
from apps.notifications.senders.sending import Sent, message_send
from apps.notifications.services.announcing import delivery_add, delivery_new
from apps.notifications.services.outbox import RETRY_FOR, RetryLater
from apps.notifications.states import DELIVERY_FINAL, DeliveryState, TargetKind
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import DecryptionFailed
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How many attempts are kept, and how often a message is sent that the target does not want.
ATTEMPTS_KEPT = 20
ATTEMPTS_OF_REJECTED = 5
# A target that works has the time of its last message to the hour.
_NOTED_EACH = timedelta(hours=1)


def delivery_send(item: OutboxItem) -> None:
    """Send the message that the item of the outbox is about. Raises RetryLater until it has arrived, for 24 hours.

    The messages after it wait. Those that are a day old when a target still fails are given up without an attempt.
    """
    delivery = delivery_find(item.fact["delivery_id"])
    if delivery is None or delivery.state in DELIVERY_FINAL:
        return
    target = target_find(str(delivery.target_id))
    if target is None:
        _note(delivery, DeliveryState.FAILED, reason="The target was deleted.")
        return
    is_late = clock.now() - clock.parse_timestamp(delivery.created_at) >= RETRY_FOR
    if is_late and target.failing_since:
        _note(delivery, DeliveryState.FAILED, reason="The target still failed when the message was a day old.")
        return
    sent = _attempt(delivery, target)
    _target_note(target, sent)
    if sent.problem is None:
        _note(delivery, DeliveryState.DELIVERED)
    elif is_late or (sent.is_rejected and int(delivery.attempt_count) >= ATTEMPTS_OF_REJECTED):
        _note(delivery, DeliveryState.FAILED)
    else:
        _note(delivery, DeliveryState.RETRYING)
        raise RetryLater(sent.problem, seconds=sent.retry_after)


def delivery_redeliver(*, actor: Actor, delivery_id: str) -> Delivery:
    """Send the message of a delivery once more, after those that wait. Returns the new delivery.

    Its message has the same id, so that a receiver that has had it can tell. Raises Forbidden, and NotFound also if the
    target was deleted.
    """
    notifications_manage_require(actor)
    old = delivery_get(delivery_id)
    target = target_get(str(old.target_id))
    transaction = Transaction()
    fresh = delivery_add(
        transaction,
        target,
        message=old.message,
        now=clock.now(),
        message_id=str(old.message_id),
        requested_by=actor.name,
    )
    audit_add(
        transaction,
        actor=actor,
        action=Action.NOTIFICATION_REDELIVERED,
        target=f"notification_target:{target.target_id}",
        detail={"delivery": str(old.delivery_id), "type": old.message["type"]},
    )
    transaction.commit()
    return fresh


def target_test(*, actor: Actor, target_id: str) -> Delivery:
    """Send a message to the target at once, past those that wait, and return how that went. It takes up to 5 seconds.

    Raises Forbidden, NotFound, Unavailable.
    """
    notifications_manage_require(actor)
    target, now = target_get(target_id), clock.now()
    message = Message(
        type="test",
        headline="Test",
        subject=f"messages for {target.name} arrive",
        facts=[("Sent by", actor.name)],
        url=None,
        link="",
        at=clock.timestamp(now),
        data={"target": str(target.name), "requested_by": actor.name},
    )
    delivery = delivery_new(target, message=message.as_json(), now=now, requested_by=actor.name)
    sent = _attempt(delivery, target)
    delivery.state = DeliveryState.FAILED if sent.problem else DeliveryState.DELIVERED
    delivery.ended_at = clock.timestamp(clock.now())
    transaction = Transaction()
    transaction.put("delivery", delivery, Delivery.delivery_id.does_not_exist())
    if changes := _target_changes(target, sent):
        transaction.update("target", target, actions=changes, condition=Target.target_id.exists())
    audit_add(
        transaction,
        actor=actor,
        action=Action.NOTIFICATION_TARGET_TESTED,
        target=f"notification_target:{target_id}",
        result="failed" if sent.problem else "ok",
    )
    try:
        transaction.commit()
    except TransactionFailed:
        # It was deleted meanwhile.
        target_get(target_id)
        raise
    return delivery


def _attempt(delivery: Delivery, target: Target) -> Sent:
    """Send it once. The attempt is in the delivery, and not yet written."""
    began, at = time.monotonic(), clock.timestamp(clock.now())
    try:
        address = target_address(target)
    except DecryptionFailed:
        sent = Sent(problem="its address cannot be decrypted: enter it again")
    else:
        message = Message.of_json(delivery.message)
        sent = message_send(TargetKind(target.kind), address, message, message_id=str(delivery.message_id))
    attempt = {
        "at": at,
        "milliseconds": round((time.monotonic() - began) * 1000),
        "status": sent.status,
        "problem": sent.problem,
        "excerpt": sent.excerpt,
    }
    delivery.attempts = [*(delivery.attempts or []), attempt][-ATTEMPTS_KEPT:]
    delivery.attempt_count = int(delivery.attempt_count) + 1
    return sent


def _note(delivery: Delivery, state: DeliveryState, *, reason: str | None = None) -> None:
    """Write how far the delivery is."""
    actions: list[Any] = [Delivery.state.set(state)]
    if delivery.attempts:
        actions += [Delivery.attempts.set(delivery.attempts), Delivery.attempt_count.set(delivery.attempt_count)]
    if reason:
        actions.append(Delivery.reason.set(reason))
    if state in DELIVERY_FINAL:
        actions.append(Delivery.ended_at.set(clock.timestamp(clock.now())))
    # It may have expired.
    with suppress(ConditionFailed):
        delivery.update(actions=actions, condition=Delivery.delivery_id.exists())


def _target_note(target: Target, sent: Sent) -> None:
    """Note that the target works or fails, if that is news."""
    # It may have been deleted.
    if changes := _target_changes(target, sent):
        with suppress(ConditionFailed):
            target.update(actions=changes, condition=Target.target_id.exists())


def _target_changes(target: Target, sent: Sent) -> list[Any]:
    """What an attempt changes of the target: nothing in most cases."""
    now = clock.now()
    actions: list[Any]
    if sent.problem:
        actions = [Target.problem.set(sent.problem)] if sent.problem != target.problem else []
        actions += [] if target.failing_since else [Target.failing_since.set(clock.timestamp(now))]
    else:
        is_noted = target.delivered_at and now - clock.parse_timestamp(target.delivered_at) < _NOTED_EACH
        actions = [] if is_noted and not target.failing_since else [Target.delivered_at.set(clock.timestamp(now))]
        actions += [Target.failing_since.remove(), Target.problem.remove()] if target.failing_since else []
    return actions
