"""Writing connections and events."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.sources.services.connections import (
        ConnectionMade,
        connection_change,
        connection_create,
        connection_delete,
        connection_secret_rotate,
    )
    from apps.sources.services.deliveries import (
        WEBHOOK_LIMIT,
        delivery_accept,
        delivery_add,
        delivery_end,
        delivery_put_off,
        delivery_redeliver,
        event_words,
        installation_note,
    )

__all__ = [
    "WEBHOOK_LIMIT",
    "ConnectionMade",
    "connection_change",
    "connection_create",
    "connection_delete",
    "connection_secret_rotate",
    "delivery_accept",
    "delivery_add",
    "delivery_end",
    "delivery_put_off",
    "delivery_redeliver",
    "event_words",
    "installation_note",
]

__getattr__ = lazy_names(
    __name__,
    {
        "connections": [
            "ConnectionMade",
            "connection_change",
            "connection_create",
            "connection_delete",
            "connection_secret_rotate",
        ],
        "deliveries": [
            "WEBHOOK_LIMIT",
            "delivery_accept",
            "delivery_add",
            "delivery_end",
            "delivery_put_off",
            "delivery_redeliver",
            "event_words",
            "installation_note",
        ],
    },
)
