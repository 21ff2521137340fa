"""Reading deliveries. One delivery and those of a target are read consistently; the list of all may lag by moments."""

import re
from collections.abc import Iterable
from datetime import timedelta

from apps.notifications.models import Delivery
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import ID_PATTERN
from controlplane.nosql.listing import Listing, place_decode

__all__ = [
    "DELIVERIES_KEPT",
    "Delivery",
    "DeliveryPage",
    "deliveries_known",
    "delivery_find",
    "delivery_get",
    "delivery_id_of",
    "delivery_list",
]

# After that they expire.
DELIVERIES_KEPT = timedelta(days=30)
_ID = re.compile(rf"{ID_PATTERN}\.{ID_PATTERN}")
_SCOPE = "notification-deliveries"
# A day costs a query, also one without deliveries.
OF_TARGET = Listing(
    Delivery, None, lambda asked: [asked["target_id"]] if "target_id" in asked else None, descending=True
)
BY_DAY = Listing(Delivery, Delivery.by_day, lambda _asked: _days(), descending=True)


@frozen
class DeliveryPage:
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None


def delivery_id_of(target_id: str, beginning: str) -> str:
    """The id of a delivery to the target that begins with this ULID."""
    return f"{beginning}.{target_id}"


def delivery_partition(delivery_id: str) -> str:
    """The target of a delivery with this id."""
    return delivery_id.partition(".")[2]


def delivery_find(delivery_id: str) -> Delivery | None:
    """The delivery with this id, or None."""
    return Delivery.find(delivery_partition(delivery_id), delivery_id)


def delivery_get(delivery_id: str) -> Delivery:
    """The delivery with this id. Raises NotFound with the code ``notification_delivery_not_found``."""
    delivery = delivery_find(delivery_id) if _ID.fullmatch(delivery_id) else None
    if delivery is None or delivery.expires_at <= clock.now():
        raise NotFound("There is no such delivery.", code=ErrorCode.NOTIFICATION_DELIVERY_NOT_FOUND)
    return delivery


def deliveries_known(wanted: Iterable[tuple[str, str]]) -> list[str]:
    """Which of these deliveries there are already, each a target and how its id begins. Returns these beginnings."""
    keys = [(target_id, delivery_id_of(target_id, beginning)) for target_id, beginning in wanted]
    return [str(found.delivery_id).partition(".")[0] for found in Delivery.find_many(keys)]


def delivery_list(*, target_id: str | None = None, limit: int = 50, cursor: str | None = None) -> DeliveryPage:
    """The deliveries of a target, or of all, newest first. Raises InvalidInput for a cursor of another list."""
    scope = f"{_SCOPE}:{target_id or ''}"
    listing, partitions = (OF_TARGET, [target_id]) if target_id else (BY_DAY, _days())
    page = listing.page(partitions, limit=limit, start=place_decode(scope, cursor))
    return DeliveryPage(page.records, page.next_cursor(scope))


def _days() -> Iterable[str]:
    today = clock.now()
    return [f"{today - timedelta(days=number):%Y-%m-%d}" for number in range(DELIVERIES_KEPT.days + 1)]
