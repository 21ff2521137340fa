"""Reading legal holds and the copies of events under them. All reads are consistent."""

import zlib

from apps.audit.models import HeldEvents, Hold, held_partition
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.nosql.listing import Listing, place_decode

# A pack has at most so many events. With DynamoDB's largest events it stays below the limit of an item.
PACK_EVENTS = 100

_BY_HOLD = Listing(HeldEvents, None)


def hold_list() -> list[Hold]:
    """All holds, the newest first, released ones too. There are few."""
    return list(Hold.query(Hold.KIND, consistent_read=True, scan_index_forward=False))


def hold_get(hold_id: str) -> Hold:
    """The hold. Raises NotFound."""
    hold = Hold.find(Hold.KIND, hold_id)
    if hold is None:
        raise NotFound("There is no such legal hold.", code=ErrorCode.HOLD_NOT_FOUND)
    return hold


def held_page(hold_id: str, *, packs: int, cursor: str | None = None) -> tuple[list[str], str | None]:
    """The canonical lines of some packs of a hold's copies, in their order, and the cursor of the next ones.

    Raises InvalidInput for a cursor of another hold.
    """
    scope = f"held:{hold_id}"
    page = _BY_HOLD.page([held_partition(hold_id)], limit=packs, start=place_decode(scope, cursor))
    return [line for pack in page.records for line in _lines(pack)], page.next_cursor(scope)


def pack_lines(hold_id: str, entry: str) -> list[str]:
    """The lines of the pack of a hold that begins with this entry; none if there is no such pack."""
    pack = HeldEvents.find(held_partition(hold_id), entry)
    return _lines(pack) if pack else []


def _lines(pack: HeldEvents) -> list[str]:
    return zlib.decompress(pack.lines).decode().splitlines()
