"""Recording audit events. Nothing else writes to the trail, and nothing changes or deletes an event."""

from collections.abc import Mapping

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction

# A usual event is smaller than 1 KB (two write units in a transaction). These limits apply to all input of clients.
MAX_TEXT = 200
MAX_DETAILS = 12

# Jobs have thousands of events. `audit_between` finds those of one job by the times of its creation and its end.
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
    """Add an audit event to the transaction of the change that it records, so that both are written or neither.

    `target` is the changed object, as ``kind:id``. `detail` is small, for people, and never contains a secret. Texts
    are cut to 200 characters. Two events of a transaction need two labels.
    Raises ValueError for more than 12 details.
    """
    now = clock.timestamp(clock.now())
    if detail and len(detail) > MAX_DETAILS:
        raise ValueError(f"an audit event must have at most {MAX_DETAILS} details")
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
    # A refused action changes nothing, and a client can cause any number of refusals, so the index omits them.
    if result == "ok" and not record.target.startswith(_UNINDEXED):
        record.about = record.target
    tx.put(label, record)


def _cut(text: str) -> str:
    """The text, cut to MAX_TEXT characters. Lone surrogates, which UTF-8 cannot encode, become question marks."""
    text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()
