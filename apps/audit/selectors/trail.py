"""Reading the audit trail forwards, from its oldest event on: for exports, reports and what ships events elsewhere."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from apps.audit.models import AuditRecord, entry_partition, shard_keys
from apps.audit.selectors import BY_ACTION, BY_ACTOR, BY_TARGET, audit_conditions
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, Partition
from controlplane.nosql.query import Lookup

# An event has the time at which its transaction was made, and is readable once that is committed. A request ends after
# 30 seconds, and clocks may differ. After so many seconds, no event of that time can still come.
SETTLED_SECONDS = 120
# A page covers at most so many days of which each is eight queries, and looks at so many events that a filter drops.
PAGE_DAYS = 31
_LOOK_AT_MOST = 5_000
# No version of this product has recorded an event before this day.
BEGINNING = "2026-01-01"

_FORWARD = tuple(
    Listing(listing.kind, listing.index, listing.partitions, filters=listing.filters)
    for listing in (BY_TARGET, BY_ACTOR, BY_ACTION)
)
_BY_DAY: Listing[AuditRecord] = Listing(AuditRecord, None)


@frozen
class TrailSearch:
    """Which events: those of an actor, a target and an action, as for `audit_search`; None means any."""

    actor: str | None = None
    target: str | None = None
    action: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it has no filter. Only then the events are read consistently, and without an index."""
        return not (self.actor or self.target or self.action)


@frozen
class TrailPage:
    """Events, oldest first. `next` is the place after which they go on; None when there are no more.

    A page may be empty and still have a next one.
    """

    records: list[AuditRecord]
    next: str | None


def settled_until() -> str:
    """The place in the trail before which no further event can come."""
    return clock.timestamp(clock.now() - timedelta(seconds=SETTLED_SECONDS))


def trail_page(
    search: TrailSearch = TrailSearch(),  # noqa: B008 — it is immutable
    *,
    after: str = BEGINNING,
    until: str,
    limit: int,
) -> TrailPage:
    """Up to `limit` events whose entry is greater than `after` and smaller than `until`.

    Both are entries, or times or days in their place. A page covers a bounded number of days and of events that the
    filter drops. With a filter an index is read, which may lag by moments behind the trail.
    """
    listing, partitions, matches = _plan(search)
    found: list[AuditRecord] = []
    end = None
    if listing is None:
        days = list(_days(after, until))
        if len(days) > PAGE_DAYS:
            del days[PAGE_DAYS:]
            end = f"{days[-1]}~"
        listing, partitions = _BY_DAY, [shard_keys(day) for day in days]
    for looked_at, record in enumerate(_records(listing, partitions, after), 1):
        if record.entry >= until:
            return TrailPage(found, None)
        if matches(record):
            found.append(record)
        if len(found) >= limit or looked_at >= _LOOK_AT_MOST:
            return TrailPage(found, record.entry)
    return TrailPage(found, end)


def trail_events(
    search: TrailSearch = TrailSearch(),  # noqa: B008 — it is immutable
    *,
    after: str = BEGINNING,
    until: str,
) -> Iterator[AuditRecord]:
    """All events between the two places, page by page. Any number: not for requests."""
    place: str | None = after
    while place is not None:
        page = trail_page(search, after=place, until=until, limit=_LOOK_AT_MOST)
        yield from page.records
        place = page.next


def _plan(search: TrailSearch) -> tuple[Listing[AuditRecord] | None, list[Partition], Any]:
    """The listing that narrows the search most, its partitions, and what its events must fulfil; None for the days."""
    asked = audit_conditions(actor=search.actor, target=search.target, action=search.action)
    lookups = [Lookup.parse(name, value) for name, value in asked.items()]
    for listing in _FORWARD:
        partitions = listing.partitions(asked)
        if partitions is not None:
            return listing, list(partitions), lambda record: all(item.fulfilled_by(record) for item in lookups)
    return None, [], lambda _record: True


def _records(listing: Listing[AuditRecord], partitions: list[Partition], after: str) -> Iterator[AuditRecord]:
    """The events of the partitions behind the place, oldest first."""
    if not partitions:
        return
    hash_name, _ = listing.key_names()
    first = partitions[0] if isinstance(partitions[0], str) else partitions[0][0]
    # DynamoDB needs no item at the place. In a day, the place may be the day itself, before all of its entries.
    place: Mapping[str, str] = {"day": entry_partition(after), "entry": after, hash_name: first}
    for batch in listing.batches(partitions, start=dict(place)):
        yield from batch


def _days(after: str, until: str) -> Iterator[str]:
    """The days between two places."""
    first = date.fromisoformat(max(after[:10], BEGINNING))
    last = min(date.fromisoformat(until[:10]), clock.now().date())
    for number in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(number).isoformat()


def last_act_at(principal: str, *, before: str) -> str | None:
    """The time of the last event of a person, an agent or a program before a time; None without one. One query.

    `principal` is as `principal_of` gives it. What concerns crowds has no such time.
    """
    found = AuditRecord.by_actor.query(
        principal, AuditRecord.entry < before, scan_index_forward=False, limit=1, page_size=1
    )
    return next((str(record.at) for record in found), None)
