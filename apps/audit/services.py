"""Recording acts. There is no other writer of the trail, and nothing that changes or deletes a record."""

from collections.abc import Mapping

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction

# A usual record stays below 1 KB (two write units in a transaction), and none grows with what a client sends.
MAX_TEXT = 200
MAX_DETAILS = 12

# Jobs are acted on by the thousand, and each knows the hours of its own life: `audit_between` finds its acts in those.
_UNINDEXED = ("job:", "email:")


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
    """Add the record of an act to the act's own transaction, so that neither is ever there without the other.

    `target` names what was acted on, as ``kind:id``. `detail` is for people, small and never secret: its texts are cut
    after 200 characters. A transaction with two acts gives each its own `label`.
    """
    now = clock.timestamp(clock.now())
    if detail and len(detail) > MAX_DETAILS:
        raise ValueError(f"an audit record takes at most {MAX_DETAILS} details")
    record = AuditRecord(
        day=now[:10],
        entry=f"{now}#{new_id()}",
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=_cut(actor.name),
        action=action.value,
        target=_cut(target),
        result=_cut(result),
        detail={key: _cut(value) if isinstance(value, str) else value for key, value in detail.items()}
        if detail
        else None,
    )
    # What was refused has changed nothing, and anyone can be refused any number of times.
    if result == "ok" and not record.target.startswith(_UNINDEXED):
        record.about = record.target
    tx.put(label, record)


def _cut(text: str) -> str:
    """Short enough, and free of the halves of characters that JSON can hold and UTF-8 can't."""
    text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()
