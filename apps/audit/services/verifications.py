"""Recording that the trail was checked."""

from apps.audit.actions import Action
from apps.audit.seals.checking import Verification
from apps.audit.selectors.seals import CHECKED
from apps.audit.services import audit_add
from controlplane.lib.actor import SYSTEM
from controlplane.nosql.transaction import Transaction


def verification_record(result: Verification, *, is_whole: bool) -> None:
    """Record what a check of the trail has found, for the pages that show the last one."""
    statement = result.head.statement if result.head else None
    tx = Transaction()
    audit_add(
        tx,
        actor=SYSTEM,
        action=Action.AUDIT_VERIFIED,
        target=CHECKED,
        result="changed" if result.findings else "ok",
        detail={
            "checked": "the whole trail" if is_whole else "a part of the trail",
            "records": result.records,
            "through": statement.through if statement else None,
            "seal": statement.number if statement else None,
            "digest": statement.digest if statement else None,
            "first_finding": result.findings[0].message if result.findings else None,
        },
    )
    tx.commit()
