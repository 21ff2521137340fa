"""What pages say about the whole trail: how much was recorded today, and how far it is protected."""

from apps.audit.actions import Action
from apps.audit.models import DayEvents
from apps.audit.selectors import audit_search
from apps.audit.selectors.seals import CHECKED, seal_head
from controlplane.lib import clock
from controlplane.lib.frozen import frozen


@frozen
class Protection:
    """Up to when the trail is sealed, by which seal, and what its last check has found. What was never done is None."""

    sealed_until: str | None = None
    seal: int | None = None
    checked_at: str | None = None
    is_unchanged: bool = False


def trail_protection() -> Protection:
    """How far the trail is protected. One query for the last seal, and two calls for the last check."""
    head = seal_head()
    if head is None:
        return Protection()
    checks = audit_search(target=CHECKED, action=Action.AUDIT_VERIFIED, limit=1).records
    at, result = (str(checks[0].at), str(checks[0].result)) if checks else (None, "")
    return Protection(head.statement.through, head.number, at, result == "ok")


def events_today() -> DayEvents:
    """How many events of today (UTC) are sealed, which they are after two to three minutes. One read."""
    today = f"{clock.now():%Y-%m-%d}"
    return DayEvents.find(DayEvents.KIND, today) or DayEvents(DayEvents.KIND, today, events=0, of_users=0)
