"""The records of the outbox and of notifications."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.notifications.models.deliveries import Delivery
    from apps.notifications.models.outbox import LANE, NEW, OutboxItem, OutboxLane
    from apps.notifications.models.targets import RESULTS, RULES, TARGETS, BranchResult, Rule, Target

__all__ = [
    "LANE",
    "NEW",
    "RESULTS",
    "RULES",
    "TARGETS",
    "BranchResult",
    "Delivery",
    "OutboxItem",
    "OutboxLane",
    "Rule",
    "Target",
]

# Django imports this package at each cold start, and most requests write nothing into the outbox.
__getattr__ = lazy_names(
    __name__,
    {
        "deliveries": ["Delivery"],
        "outbox": ["LANE", "NEW", "OutboxItem", "OutboxLane"],
        "targets": ["RESULTS", "RULES", "TARGETS", "BranchResult", "Rule", "Target"],
    },
)
