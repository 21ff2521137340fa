"""Reading deliveries. Lists may lag by moments; a delivery itself is read consistently."""

import hashlib
import re
from datetime import datetime, timedelta

from apps.sources.models import DUE, Delivery
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, place_decode

__all__ = [
    "KEPT_DAYS",
    "Delivery",
    "DeliveryPage",
    "deliveries_due",
    "delivery_find",
    "delivery_get",
    "delivery_key",
    "delivery_list",
    "delivery_months",
]

# For so long a repetition is known for one, and the delivery is listed.
KEPT_DAYS = 30
_EVENT_ID = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 200
_LOOK_AT_MOST = 500

_BY_MONTH = Listing(Delivery, Delivery.by_month, descending=True)
_BY_TROUBLE = Listing(Delivery, Delivery.by_trouble, descending=True)


@frozen
class DeliveryPage:
    """A page of deliveries, the newest first; `next_cursor` is None on the last one."""

    deliveries: list[Delivery]
    next_cursor: str | None


def delivery_key(connection_id: str, delivery_id: str) -> str:
    """The id of an event: 32 hexadecimal digits, which a repetition of the delivery has, too."""
    return hashlib.sha256(f"{connection_id}\n{delivery_id}".encode()).hexdigest()[:32]


def delivery_find(event_id: str) -> Delivery | None:
    """The delivery with this id of its event, or None."""
    return Delivery.find(event_id) if _EVENT_ID.fullmatch(event_id) else None


def delivery_get(connection_id: str, event_id: str) -> Delivery:
    """A delivery of the connection. Raises NotFound with the code ``delivery_not_found``."""
    delivery = delivery_find(event_id)
    if delivery is None or delivery.connection_id != connection_id:
        raise NotFound("The connection has got no such event.", code=ErrorCode.DELIVERY_NOT_FOUND)
    return delivery


def delivery_month(connection_id: str, moment: datetime) -> str:
    """The partition of the lists in which a delivery of that moment is."""
    return f"{connection_id}#{moment:%Y-%m}"


def delivery_list(
    connection_id: str, *, troubled: bool = False, limit: int = 20, cursor: str | None = None
) -> DeliveryPage:
    """The deliveries of a connection in the last 30 days; with `troubled`, those that were refused or have failed.

    Raises InvalidInput for a cursor that no page gave.
    """
    scope = f"deliveries:{connection_id}:{'trouble' if troubled else 'all'}"
    page = (_BY_TROUBLE if troubled else _BY_MONTH).page(
        delivery_months(connection_id), limit=limit, start=place_decode(scope, cursor), look_at_most=_LOOK_AT_MOST
    )
    return DeliveryPage(page.records, page.next_cursor(scope))


def delivery_months(connection_id: str) -> list[str]:
    """The partitions that have the deliveries of the last 30 days, the newest first."""
    now = clock.now()
    days = (delivery_month(connection_id, now - timedelta(days=ago)) for ago in range(KEPT_DAYS + 1))
    return list(dict.fromkeys(days))


def deliveries_due(now: datetime) -> list[str]:
    """The ids of the events that are to be worked off, the longest waiting first. One query."""
    rows = Delivery.by_due.query(DUE, Delivery.due_at <= clock.timestamp(now), limit=_AT_ONCE, page_size=_AT_ONCE)
    return [str(row.event_id) for row in rows]
