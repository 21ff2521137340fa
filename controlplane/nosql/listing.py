"""Lists that are read a page at a time, forwards and backwards, from an index whose order they have."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from pynamodb.indexes import Index

from controlplane.nosql.record import Record

R = TypeVar("R", bound=Record)

# The key of an entry: all that a later page needs to go on from there. Our keys are texts.
Place = dict[str, str]

# How many entries one page may look at when few of them pass its filters; the next page goes on from there.
LOOK_AT_MOST = 1000
# DynamoDB reads at most this many items in one BatchGet.
_BATCH = 100


def search_key(text: str) -> str:
    """How a text stands in the index by which people look for it: without regard to case and to extra white space."""
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class Listing(Generic[R]):
    """An order in which the records of a kind can be listed.

    `index` None is the table itself. `partitions` says which of its partitions there are, in the order of the list, for
    what is asked (``{field: value}`` of the conditions of equality), or None if this listing does not serve that.
    `filters` are fields by which the listing may be narrowed by looking at each record; `prefix` is one that narrows
    the index's range key. With `descending`, partitions and their entries go from the last to the first.
    """

    kind: type[R]
    index: Index[Any] | None
    partitions: Callable[[Mapping[str, Any]], Sequence[str] | None]
    filters: Collection[str] = ()
    descending: bool = False

    def key_names(self) -> tuple[str, str]:
        """The attributes that are this listing's hash and range key."""
        keys = self.index.Meta.attributes if self.index else self.kind.get_attributes()
        hash_name = next(name for name, key in keys.items() if key.is_hash_key)
        return hash_name, next(name for name, key in keys.items() if key.is_range_key)

    def page(
        self,
        partitions: Sequence[str],
        *,
        limit: int,
        keep: Callable[[R], bool],
        prefix: str | None = None,
        start: Place | None = None,
        backward: bool = False,
    ) -> "ListingPage[R]":
        """Up to `limit` records that `keep` lets through, after the place `start` (before it, with `backward`)."""
        found: list[tuple[Place, R]] = []
        rest: Place | None = None
        entries = self._entries(partitions, prefix, start, backward, limit + 1)
        for looked_at, (place, record) in enumerate(entries, start=1):
            if record is not None and keep(record):
                if len(found) == limit:
                    rest = found[-1][0]
                    break
                found.append((place, record))
            if looked_at == LOOK_AT_MOST:
                rest = place
                break
        if backward:
            found.reverse()
        # Whence we came there is something, and `start` stands for it when this page shows nothing.
        came_from = (found[-1 if backward else 0][0] if found else start) if start else None
        return ListingPage(
            [record for _, record in found],
            next=came_from if backward else rest,
            previous=rest if backward else came_from,
        )

    def _entries(
        self, partitions: Sequence[str], prefix: str | None, start: Place | None, backward: bool, size: int
    ) -> Iterator[tuple[Place, R | None]]:
        hash_name, range_name = self.key_names()
        forward_in_index = self.descending == backward
        keys = self.index.Meta.attributes if self.index else self.kind.get_attributes()
        condition = keys[range_name].startswith(prefix) if prefix else None
        for partition in reversed(partitions) if backward else partitions:
            if start and not _reached(partition, start[hash_name], forward_in_index):
                continue
            here = start if start and partition == start[hash_name] else None
            stored = {self.kind.get_attributes()[name].attr_name: {"S": text} for name, text in (here or {}).items()}
            source: Any = self.index if self.index else self.kind
            found = source.query(
                partition,
                condition,
                scan_index_forward=forward_in_index,
                last_evaluated_key=stored or None,
                page_size=min(size, _BATCH),
                # An index cannot be read so.
                consistent_read=self.index is None,
            )
            yield from self._whole(found, {hash_name, range_name}, size)

    def _whole(self, found: Iterable[R], names: set[str], size: int) -> Iterator[tuple[Place, R | None]]:
        """The entries with their records. An index has only a part of each: the rest is read consistently."""
        own = [name for name in (self.kind._hash_keyname, self.kind._range_keyname) if name]
        entries = iter(found)
        while batch := list(islice(entries, min(size, _BATCH))):
            places = [{name: getattr(entry, name) for name in {*own, *names}} for entry in batch]
            if self.index is None:
                yield from zip(places, batch, strict=True)
                continue
            keys = [tuple(place[name] for name in own) for place in places]
            records = {
                tuple(getattr(record, name) for name in own): record
                for record in self.kind.find_many(key if len(own) > 1 else key[0] for key in keys)
            }
            yield from zip(places, map(records.get, keys), strict=True)


def _reached(partition: str, start: str, ascending: bool) -> bool:
    return partition >= start if ascending else partition <= start


@dataclass(frozen=True)
class ListingPage(Generic[R]):
    """A page of a listing, in its order, and the places from which the next and the previous one go on, if any."""

    records: list[R]
    next: Place | None
    previous: Place | None
