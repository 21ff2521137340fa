"""The records of connections to providers of repositories, and of the events that these send."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.sources.models.checks import SentCheck
    from apps.sources.models.connections import SPACE, Connection, secret_context
    from apps.sources.models.deliveries import DUE, Delivery

__all__ = ["DUE", "SPACE", "Connection", "Delivery", "SentCheck", "secret_context"]

# Django imports this package at each cold start, and few of these get an event.
__getattr__ = lazy_names(
    __name__,
    {
        "checks": ["SentCheck"],
        "connections": ["SPACE", "Connection", "secret_context"],
        "deliveries": ["DUE", "Delivery"],
    },
)
