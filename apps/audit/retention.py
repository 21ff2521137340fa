"""How long audit events are kept: the setting AUDIT_RETENTION. See docs/decisions/0042."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings

from apps.audit.actions import Action

# A legal hold has copied an event long before it expires, also after the sweep has stood still for a while.
LEAST_DAYS = 30
_MOST_DAYS = 36_500
# What says who exported, held and reviewed the trail stays as long as the trail.
_KEPT = ("audit.", "report.")


def retention_days(setting: Mapping[str, str] | None = None) -> dict[str, int]:
    """The days by the beginning of an action. Raises ValueError with what is wrong."""
    found = {}
    for beginning, text in (settings.AUDIT_RETENTION if setting is None else setting).items():
        if not str(text).isdecimal() or not LEAST_DAYS <= int(text) <= _MOST_DAYS:
            raise ValueError(f"must have {LEAST_DAYS} to {_MOST_DAYS} days for {beginning}")
        if not any(action.value.startswith(beginning) for action in Action):
            raise ValueError(f"must have beginnings of actions, and none begins with {beginning}")
        if any(beginning.startswith(kept) or kept.startswith(beginning) for kept in _KEPT):
            raise ValueError(f"must not concern events about the trail itself, as {beginning} does")
        found[beginning] = int(text)
    return found


def expiry(action: Action, moment: datetime) -> datetime | None:
    """When an event of this action and time expires; None if it is kept for ever."""
    matching = [(len(name), days) for name, days in retention_days().items() if action.value.startswith(name)]
    if not matching:
        return None
    # DynamoDB's TTL knows whole seconds.
    return (moment + timedelta(days=max(matching)[1])).replace(microsecond=0)
