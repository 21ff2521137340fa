"""The only pager: it reads lists in pages, forwards and backwards, in the order of a table or an index."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from pynamodb.attributes import Attribute
from pynamodb.expressions.condition import Condition
from pynamodb.indexes import Index

from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.frozen import frozen
from controlplane.nosql.record import Record

R = TypeVar("R", bound=Record)

# Where a page begins: the key of the entry before it. All keys are strings.
Place = dict[str, str]

# The key of a partition; or, for a split one, the keys of its shards, whose entries are merged by their range key. No
# two entries of a split partition may have the same range key.
Partition = str | tuple[str, ...]

# How many entries one page may examine when few of them match. The next page continues from there.
LOOK_AT_MOST = 1_000
# A query that finds few entries still costs a call, so each query counts as at least this many entries.
LOOK_LEAST = 20
# How many entries a query reads when DynamoDB filters them.
_FILTERED_SIZE = 500
# DynamoDB reads at most this many items in one BatchGet.
_BATCH = 100

# How many entries one counting query reads, and as how many it counts at least against the limit.
_COUNT_SIZE, _COUNT_LEAST = 5_000, 500

# A place before or after all entries of a partition has this member instead of the entry's key.
_EDGE = "edge"


def search_key(text: str) -> str:
    """The form of a text in search indexes: case-folded, with single spaces."""
    return " ".join(text.casefold().split())


def place_decode(scope: str, cursor: str | None) -> Place | None:
    """The place in a cursor that `ListingPage.next_cursor` made for the same scope; None without a cursor.

    Raises InvalidInput (field "cursor", code ``invalid_cursor``).
    """
    return cursor_decode(_scope(scope), cursor) if cursor else None


def _scope(scope: str) -> str:
    return f"listing {scope}"


@frozen
class ListingPage(Generic[R]):
    """A page in the order of its listing. `next` and `previous` are where the adjacent pages begin, or None.

    A page may be shorter than its limit, or empty, and still have a next one.
    """

    records: list[R]
    next: Place | None
    previous: Place | None

    def next_cursor(self, scope: str) -> str | None:
        """A signed cursor for the next page. `scope` names the list and its filters; no other scope accepts it."""
        return cursor_encode(_scope(scope), self.next) if self.next else None


@frozen
class _Look:
    """Index entries as DynamoDB returned them, their cost against the limit, and the place after them.

    `end` is None after the last entry.
    """

    entries: list[dict[str, Any]]
    cost: int
    end: Place | None


@frozen
class Listing(Generic[R]):
    """One order in which the records of a kind are listed.

    - `index`: the index that has this order; None for the table itself, which is read consistently.
    - `partitions`: gives the partitions to read, in the order of the list, for the conditions of a query
      (``{field: value}``, ``{field__gte: value}``), or None if this listing cannot answer the query. Without this
      function the listing answers no query; its callers pass the partitions to `page`.
    - `filters`: the fields by which records may be filtered after they are read.
    - `descending`: partitions and their entries are read from the last to the first.
    - `is_complete`: the entries of the index have all attributes that the list shows, so it does not read the records.
      The records of a page then lack the attributes that the index does not project.
    - `look`: how many entries a query reads at least, for lists in which a filter may drop many.
    """

    kind: type[R]
    index: Index[Any] | None
    partitions: Callable[[Mapping[str, Any]], Iterable[Partition] | None] = lambda _asked: None
    filters: Collection[str] = ()
    descending: bool = False
    is_complete: bool = False
    look: int = 0

    def key_names(self) -> tuple[str, str]:
        """The names of this listing's hash key and range key."""
        keys = self._keys()
        hash_name = next(name for name, key in keys.items() if key.is_hash_key)
        return hash_name, next(name for name, key in keys.items() if key.is_range_key)

    @property
    def range_key(self) -> Attribute[Any]:
        """The key that orders the entries of a partition, for the argument `within` of `page`."""
        return self._keys()[self.key_names()[1]]

    def page(
        self,
        partitions: Iterable[Partition],
        *,
        limit: int,
        keep: Callable[[R], bool] | None = None,
        within: Condition | None = None,
        condition: Condition | None = None,
        start: Place | None = None,
        backward: bool = False,
        look_at_most: int | None = None,
    ) -> ListingPage[R]:
        """Up to `limit` records after the place `start`, or before it with `backward`.

        `within` limits the range key. DynamoDB evaluates `condition`, on attributes that the index has. `keep` returns
        whether a record belongs to the list. The page ends early after `look_at_most` (LOOK_AT_MOST) entries.
        A page of a split partition begins with one query of each shard.

        Raises ValueError for a `condition` on split partitions: between two matches there could be any number of calls.
        """
        size = max(limit + 1, self.look)
        found: list[tuple[Place, R]] = []
        rest = None
        looked_at = 0
        for look in self._looks(partitions, within, condition, start, backward, size):
            matching = (pair for pair in self._records(look.entries) if keep is None or keep(pair[1]))
            found += islice(matching, limit + 1 - len(found))
            if len(found) > limit:
                found.pop()
                rest = found[-1][0]
                break
            looked_at += look.cost
            if looked_at >= (look_at_most or LOOK_AT_MOST):
                rest = look.end
                break
        if backward:
            found.reverse()
        # The page from which the reader came exists. If this page is empty, `start` leads back to it.
        came_from = (found[-1 if backward else 0][0] if found else start) if start else None
        return ListingPage(
            [record for _, record in found],
            next=came_from if backward else rest,
            previous=rest if backward else came_from,
        )

    def batches(self, partitions: Iterable[Partition], *, start: Place | None = None) -> Iterator[list[R]]:
        """All records of the partitions in batches of up to 100, for tasks that process a whole list.

        With `start`, those after this place (`place_of`).
        """
        for look in self._looks(partitions, None, None, start, False, _BATCH):
            if look.entries:
                yield [record for _, record in self._records(look.entries)]

    def place_of(self, record: R) -> Place:
        """The place of the record in this listing, where the rest of the list begins."""
        return {name: getattr(record, name) for name in {*self._own_keys(), *self.key_names()}}

    def count(
        self, partitions: Iterable[Partition], *, condition: Condition | None, at_most: int, look_at_most: int
    ) -> tuple[int, bool]:
        """How many entries match, and whether counting stopped early, so that there may be more.

        It stops above `at_most` matching entries, and after `look_at_most` entries. The count may lag by moments.
        """
        total = looked_at = 0
        for shard in chain.from_iterable(map(_shards, partitions)):
            for answer in self._answers(shard, None, condition, None, self.descending, _COUNT_SIZE, "COUNT"):
                total += answer["Count"]
                looked_at += max(answer["ScannedCount"], _COUNT_LEAST)
                if total > at_most:
                    return at_most, True
                if looked_at >= look_at_most:
                    return total, True
        return total, False

    def _keys(self) -> dict[str, Attribute[Any]]:
        keys: dict[str, Attribute[Any]] = self.index.Meta.attributes if self.index else self.kind.get_attributes()
        return keys

    def _own_keys(self) -> list[str]:
        return [name for name in (self.kind._hash_keyname, self.kind._range_keyname) if name]

    def _place(self, entry: Mapping[str, Mapping[str, str]]) -> Place:
        return {name: entry[self._stored_name(name)]["S"] for name in {*self._own_keys(), *self.key_names()}}

    def _stored_name(self, name: str) -> str:
        stored: str = self.kind.get_attributes()[name].attr_name
        return stored

    def _looks(
        self,
        partitions: Iterable[Partition],
        within: Condition | None,
        condition: Condition | None,
        start: Place | None,
        backward: bool,
        size: int,
    ) -> Iterator[_Look]:
        """The entries from `start` on, in batches that one BatchGet can read."""
        hash_name = self.key_names()[0]
        is_ascending = self.descending == backward
        entries = max(size, _FILTERED_SIZE) if condition is not None else size
        batch = entries if self._has_records else min(size, _BATCH)
        ordered = list(partitions)[::-1] if backward else partitions
        # The last partition of a generator is unknown until the generator ends.
        last_one = ordered[-1] if isinstance(ordered, Sequence) and ordered else None
        for partition in ordered:
            shards = _shards(partition)
            if start and not _reached(shards, start[hash_name], is_ascending):
                continue
            here = start if start and start[hash_name] in shards else None
            if here and _EDGE in here:
                if (here[_EDGE] == "end") != backward:
                    continue
                here = None
            edge = None if partition == last_one else {hash_name: shards[0], _EDGE: "start" if backward else "end"}
            if len(shards) > 1:
                if condition is not None:
                    raise ValueError("a split partition takes no condition")
                yield from self._merged(shards, within, here, not is_ascending, entries, batch, edge)
                continue
            for answer in self._answers(shards[0], within, condition, here, not is_ascending, entries):
                last = answer.get("LastEvaluatedKey")
                yield from self._batches(answer, batch, self._place(last) if last else edge)

    def _merged(
        self,
        shards: Sequence[str],
        within: Condition | None,
        here: Place | None,
        descending: bool,
        size: int,
        batch: int,
        edge: Place | None,
    ) -> Iterator[_Look]:
        """The entries of a split partition, in batches. Each shard is read as far as the batches need its entries."""
        hash_name, range_name = self.key_names()
        stored = self._stored_name(range_name)
        cost = 0

        def entries(shard: str) -> Iterator[dict[str, Any]]:
            nonlocal cost
            # An entry's place in one shard is also the place of its range key in the others.
            start = {**here, hash_name: shard} if here else None
            for answer in self._answers(shard, within, None, start, descending, size):
                cost += max(answer["ScannedCount"], LOOK_LEAST)
                yield from answer["Items"]

        merged = merge(*map(entries, shards), key=lambda entry: entry[stored]["S"], reverse=descending)
        while True:
            found = list(islice(merged, batch))
            is_last = len(found) < batch
            spent, cost = cost, 0
            yield _Look(found, spent, edge if is_last else self._place(found[-1]))
            if is_last:
                return

    def _batches(self, answer: dict[str, Any], size: int, end: Place | None) -> Iterator[_Look]:
        items = answer["Items"]
        cost = max(answer["ScannedCount"], LOOK_LEAST)
        while len(items) > size:
            first, items = items[:size], items[size:]
            cost -= size
            yield _Look(first, size, self._place(first[-1]))
        yield _Look(items, cost, end)

    def _answers(
        self,
        partition: str,
        within: Condition | None,
        condition: Condition | None,
        start: Place | None,
        descending: bool,
        size: int,
        select: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """DynamoDB's raw answers, since PynamoDB does not return ScannedCount."""
        last = {self._stored_name(name): {"S": text} for name, text in start.items()} if start else None
        while True:
            answer: dict[str, Any] = self.kind._get_connection().query(
                partition,
                range_key_condition=within,
                filter_condition=condition,
                index_name=self.index.Meta.index_name if self.index else None,
                # DynamoDB reads no index consistently.
                consistent_read=self.index is None,
                exclusive_start_key=last,
                limit=size,
                scan_index_forward=not descending,
                select=select,
            )
            yield answer
            last = answer.get("LastEvaluatedKey")
            if last is None:
                return

    @property
    def _has_records(self) -> bool:
        return self.index is None or self.is_complete

    def _records(self, entries: list[dict[str, Any]]) -> Iterator[tuple[Place, R]]:
        """The records of index entries with their places, without records that are missing from the table."""
        if self._has_records:
            yield from ((self._place(entry), self.kind.from_raw_data(entry)) for entry in entries)
            return
        own = self._own_keys()
        places = [self._place(entry) for entry in entries]
        keys = [tuple(place[name] for name in own) for place in places]
        records = {
            tuple(getattr(record, name) for name in own): record
            for record in self.kind.find_many(key if len(own) > 1 else key[0] for key in keys)
        }
        yield from ((place, records[key]) for place, key in zip(places, keys, strict=True) if key in records)


def _shards(partition: Partition) -> tuple[str, ...]:
    return (partition,) if isinstance(partition, str) else partition


def _reached(shards: Sequence[str], start: str, ascending: bool) -> bool:
    return start in shards or (shards[0] >= start if ascending else shards[0] <= start)
