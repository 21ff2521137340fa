"""Reading connections and events."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.sources.selectors.connections import (
        CONNECTION_ID,
        Connection,
        connection_find,
        connection_get,
        connection_list,
        webhook_path,
    )
    from apps.sources.selectors.deliveries import (
        KEPT_DAYS,
        Delivery,
        DeliveryPage,
        deliveries_due,
        delivery_find,
        delivery_get,
        delivery_key,
        delivery_list,
        delivery_month,
        delivery_months,
    )

__all__ = [
    "CONNECTION_ID",
    "KEPT_DAYS",
    "Connection",
    "Delivery",
    "DeliveryPage",
    "connection_find",
    "connection_get",
    "connection_list",
    "deliveries_due",
    "delivery_find",
    "delivery_get",
    "delivery_key",
    "delivery_list",
    "delivery_month",
    "delivery_months",
    "webhook_path",
]

__getattr__ = lazy_names(
    __name__,
    {
        "connections": [
            "CONNECTION_ID",
            "Connection",
            "connection_find",
            "connection_get",
            "connection_list",
            "webhook_path",
        ],
        "deliveries": [
            "KEPT_DAYS",
            "Delivery",
            "DeliveryPage",
            "deliveries_due",
            "delivery_find",
            "delivery_get",
            "delivery_key",
            "delivery_list",
            "delivery_month",
            "delivery_months",
        ],
    },
)
