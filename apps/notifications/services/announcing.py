"""Announcing what has happened: each target whose rules ask for it gets one message, through the outbox.

It is called by handlers of the outbox, so it may be called again for the same happening: the ids of the messages are
made from it, and then nothing is written twice.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from apps.notifications.models import RESULTS, BranchResult, Delivery, Target
from apps.notifications.selectors.deliveries import DELIVERIES_KEPT, deliveries_known, delivery_id_of
from apps.notifications.selectors.targets import branch_result, rules_matching, target_list
from apps.notifications.senders.messages import Message
from apps.notifications.services.outbox import outbox_add
from apps.notifications.states import DeliveryState, Occasion, Topic
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import id_beginning, new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
# Branches come and go: so long after its last run, the result of one is not known any more.
RESULTS_KEPT = timedelta(days=180)
# How often it is tried when another process announces the same pipeline and ref at the same moment.
_TRIES = 5
# An id as `new_id` makes it has 16 letters and digits after its time, of this alphabet.
_ALPHABET = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_ENDING = 16


@frozen
class RunEnd:
    """The end of a run. `happening` names it: two ends of a run that was run again have two."""

    happening: str
    run_id: str
    pipeline: str
    git_ref: str
    # SUCCEEDED, FAILED or CANCELLED.
    result: str
    ended_at: str


def run_end_announce(end: RunEnd, *, message: Callable[[Occasion], Message]) -> int:
    """Announce the end of a run, and note how its branch is. Returns how many targets get a message.

    `message` is called if there are any, with what is most worth saying: that the branch was broken or fixed, or else
    the result. The result before it is that of the newest run of the branch before this one, or of an earlier end of
    this one. A run that is older than the newest one with a result says nothing about the branch. Of a branch without
    a known result, a failure counts as one after a success. Raises Unavailable.
    """
    for _ in range(_TRIES):
        before = branch_result(end.pipeline, end.git_ref)
        if before is not None and (before.run_id, before.ended_at) == (end.run_id, end.ended_at):
            # It was announced by a call whose end was not noted.
            return 0
        is_newest = before is None or before.run_id <= end.run_id
        is_known = before is not None and before.expires_at > clock.now()
        occasions = _occasions(end.result, before.result if before and is_known else None, is_newest=is_newest)
        transaction = Transaction()
        if end.result != CANCELLED and is_newest:
            _result_add(transaction, end, before)
        count = _messages_add(
            transaction,
            happening=end.happening,
            pipeline=end.pipeline,
            branch=branch_name(end.git_ref),
            occasions=occasions,
            message=message,
        )
        if not count and (end.result == CANCELLED or not is_newest):
            return 0
        try:
            transaction.commit()
        except TransactionFailed as failure:
            if "result" in failure.failed:
                continue
            # All messages were written by one transaction of an earlier call.
            return 0
        return count
    raise Unavailable("The result of the branch keeps changing. Try again.")


def announce(
    *,
    happening: str,
    occasion: Occasion,
    pipeline: str | None,
    branch: str | None,
    message: Callable[[], Message],
) -> int:
    """Announce anything else, such as a deployment that waits for approval. Returns how many targets get a message.

    `happening` names it, and its message has the time at which it happened: both are the same in each call for it. A
    rule with patterns concerns only what has a pipeline or branch. Raises Unavailable.
    """
    transaction = Transaction()
    count = _messages_add(
        transaction,
        happening=happening,
        pipeline=pipeline,
        branch=branch,
        occasions=[occasion],
        message=lambda _: message(),
    )
    if not count:
        return 0
    try:
        transaction.commit()
    except TransactionFailed:
        # All messages were written by one transaction of an earlier call.
        return 0
    return count


def branch_name(git_ref: str) -> str:
    """The ref as patterns name it: without ``refs/heads/``."""
    return git_ref.removeprefix("refs/heads/")


def _occasions(result: str, before: str | None, *, is_newest: bool) -> list[Occasion]:
    """What the end of a run is, what is most worth saying first."""
    if result == CANCELLED:
        return [Occasion.CANCELLED]
    if result == FAILED:
        return [*([Occasion.FAILED_AFTER_SUCCESS] if is_newest and before != FAILED else []), Occasion.FAILED]
    return [*([Occasion.FIXED] if is_newest and before == FAILED else []), Occasion.SUCCEEDED]


def _result_add(transaction: Transaction, end: RunEnd, before: BranchResult | None) -> None:
    """Note the result. The transaction fails with the label "result" if another one was noted since it was read."""
    row = BranchResult(
        f"{RESULTS}{end.pipeline}",
        end.git_ref,
        run_id=end.run_id,
        ended_at=end.ended_at,
        result=end.result,
        expires_at=clock.now() + RESULTS_KEPT,
    )
    unchanged = BranchResult.git_ref.does_not_exist()
    if before is not None:
        unchanged = (BranchResult.run_id == before.run_id) & (BranchResult.ended_at == before.ended_at)
    transaction.put("result", row, unchanged)


def _messages_add(
    transaction: Transaction,
    *,
    happening: str,
    pipeline: str | None,
    branch: str | None,
    occasions: Iterable[Occasion],
    message: Callable[[Occasion], Message],
) -> int:
    """Add a message to each target whose rules ask for it and that has none of it yet. Returns how many there are."""
    ordered = list(occasions)
    rules = rules_matching(pipeline=pipeline, branch=branch, occasions=ordered)
    if not rules:
        return 0
    wanted = {str(rule.target_id) for rule in rules}
    heard = [target for target in target_list() if target.target_id in wanted]
    if not heard:
        return 0
    stored, now = message(ordered[0]).as_json(), clock.now()
    targets = {_beginning(happening, stored["at"], target): target for target in heard}
    for known in deliveries_known((str(target.target_id), beginning) for beginning, target in targets.items()):
        del targets[known]
    for beginning, target in targets.items():
        delivery_add(transaction, target, message=stored, beginning=beginning, now=now)
    return len(targets)


def _beginning(happening: str, at: str, target: Target) -> str:
    """How the id of the message about it to the target begins: always in the same way."""
    digest = hashlib.sha256(f"{happening}\n{target.target_id}".encode()).digest()
    ending = base64.b32encode(digest).translate(_ALPHABET).decode()[:_ENDING]
    return f"{id_beginning(clock.parse_timestamp(at))}{ending}"


def delivery_add(
    transaction: Transaction,
    target: Target,
    *,
    message: dict[str, Any],
    now: datetime,
    beginning: str | None = None,
    message_id: str | None = None,
    requested_by: str | None = None,
) -> Delivery:
    """Add a message to a target, and the item of the outbox that sends it after those before it.

    `beginning` is that of its id; None for a new one.
    """
    delivery = delivery_new(
        target, message=message, now=now, beginning=beginning, message_id=message_id, requested_by=requested_by
    )
    transaction.put(f"delivery {target.target_id}", delivery, Delivery.delivery_id.does_not_exist())
    outbox_add(
        transaction,
        topic=Topic.DELIVERY,
        key=f"target:{target.target_id}",
        fact={"delivery_id": str(delivery.delivery_id)},
    )
    return delivery


def delivery_new(
    target: Target,
    *,
    message: dict[str, Any],
    now: datetime,
    beginning: str | None = None,
    message_id: str | None = None,
    requested_by: str | None = None,
) -> Delivery:
    """A message to a target, not yet written."""
    beginning = beginning or new_id()
    return Delivery(
        str(target.target_id),
        delivery_id_of(str(target.target_id), beginning),
        target_name=target.name,
        message_id=message_id or f"msg_{beginning}",
        message=message,
        state=DeliveryState.PENDING,
        requested_by=requested_by,
        created_at=clock.timestamp(now),
        created_day=f"{now:%Y-%m-%d}",
        expires_at=now + DELIVERIES_KEPT,
    )
