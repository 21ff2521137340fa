"""Everything that changes agents. Each service is one conditional write or one transaction."""

from apps.agents.services.held import held_add, held_remove, held_remove_expired, held_start, held_wish_cancel

__all__ = [
    "held_add",
    "held_remove",
    "held_remove_expired",
    "held_start",
    "held_wish_cancel",
]
