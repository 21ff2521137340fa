"""Signing off a report: the reviewer states that its content was reviewed. The statement is an audit event."""

from apps.audit.actions import Action
from apps.audit.policies import audit_read_require
from apps.audit.services import MAX_TEXT, audit_add
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from controlplane.nosql.transaction import Transaction


def report_sign_off(
    *, actor: Actor, report: str, first: str, last: str, digest: str, rows: int, comment: str = ""
) -> None:
    """Record that the actor has reviewed the report of these days, whose content has this digest.

    The caller has made the report anew and compared the digest. Raises Forbidden, and InvalidInput (field "comment").
    """
    audit_read_require(actor)
    if len(comment) > MAX_TEXT:
        raise InvalidInput.field("comment", f"must have at most {MAX_TEXT} characters")
    tx = Transaction()
    audit_add(
        tx,
        actor=actor,
        action=Action.REPORT_SIGNED_OFF,
        target=f"report:{report}",
        detail={"from": first, "to": last, "sha256": digest, "rows": rows, "comment": comment or None},
    )
    tx.commit()
