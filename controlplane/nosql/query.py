"""Query plans that answer a facade's queries with as few DynamoDB calls as possible."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from pynamodb.attributes import Attribute
from pynamodb.expressions.condition import Condition
from pynamodb.indexes import Index

from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, ListingPage, Place
from controlplane.nosql.record import Record

R = TypeVar("R", bound=Record)

# The comparisons of a query. The same operators work on DynamoDB's expressions and on Python's values.
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "exact": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "startswith": lambda left, right: left.startswith(right),
    "in": lambda left, right: left in right,
}

# The sets of comparisons that one condition on a range key can express.
_BOUNDS = frozenset(map(frozenset[str], ([], ["startswith"], ["gte"], ["lte"], ["gte", "lte"])))

# DynamoDB's limits for keys, in bytes.
_MAX_HASH_KEY = 2048
_MAX_RANGE_KEY = 1024


class Unserved(NotImplementedError):
    """No key or index serves the query. It is refused, since it would have to scan the whole table."""


@frozen
class Lookup:
    """One condition of a ``filter()``: ``created_at__gte=…`` is Lookup("created_at", "gte", …)."""

    field: str
    comparison: str
    value: Any

    @classmethod
    def parse(cls, name: str, value: Any) -> "Lookup":
        """Parse a keyword of ``filter()``. Raises Unserved for an unsupported comparison."""
        field, _, comparison = name.partition("__")
        comparison = comparison or "exact"
        if comparison not in _COMPARISONS:
            raise Unserved(f"{name}: the comparison “{comparison}” is not supported")
        return cls(field, comparison, value)

    @property
    def name(self) -> str:
        """The condition as a keyword of ``filter()`` without its value, in its shortest form."""
        return self.field if self.comparison == "exact" else f"{self.field}__{self.comparison}"

    def fulfilled_by(self, record: Record) -> bool:
        value = getattr(record, self.field)
        if value is None:
            return self.comparison == "exact" and self.value is None
        return bool(_COMPARISONS[self.comparison](value, self.value))


class RecordQuery(Generic[R]):
    """The records of a kind that fulfil all `lookups`.

    The first plan that fits answers the query:

    1. The whole key is known: one consistent read.
    2. Several keys are known: batches of consistent reads.
    3. A unique value is known: the function in `unique` for its field finds the record.
    4. The hash key of the table or of an index is known: a query. The answer of an index may lag.

    Plans 1 to 3 check all other conditions on the records that they found. Plan 4 could find any number of records, so
    it accepts one condition on the range key and refuses all others. `page` reads a page of the first of `listings`
    that serves all conditions.

    `partition` returns the hash key for a range key. Only kinds whose range key alone is unique have it.
    """

    def __init__(
        self,
        kind: type[R],
        lookups: Iterable[Lookup],
        unique: Mapping[str, Callable[[Any], R | None]],
        *,
        partition: Callable[[str], str] | None = None,
        listings: Sequence[Listing[R]] = (),
    ) -> None:
        self._kind = kind
        self._lookups = list(lookups)
        self._unique = unique
        self._listings = listings
        self._hash = kind._hash_keyname or ""
        self._range = kind._range_keyname
        self._partition = partition if self._range else None

    def run(self, limit: int | None = None) -> Iterator[R]:
        """The records, at most `limit`. Raises Unserved before it reads, if no plan serves the query."""
        plan = self._one() or self._batch() or self._unique_value() or self._query(limit)
        if plan is None:
            raise self._unserved()
        return islice(plan(), limit)

    def page(self, *, limit: int, start: Place | None = None, backward: bool = False) -> ListingPage[R]:
        """A page of the first listing that serves the query. Raises Unserved before it reads, if none does.

        A query for keys or a unique value has only one page.
        """
        plan = self._one() or self._batch() or self._unique_value()
        if plan is not None:
            return ListingPage(list(plan()), next=None, previous=None)
        for listing in self._listings:
            hash_name, range_name = listing.key_names()
            bounds = {item.comparison: item.value for item in self._lookups if item.field == range_name}
            others = [item for item in self._lookups if item.field not in (range_name, hash_name)]
            if frozenset(bounds) not in _BOUNDS or any(item.field not in listing.filters for item in others):
                continue
            partitions = listing.partitions({item.name: item.value for item in self._lookups})
            if partitions is None:
                continue
            # DynamoDB refuses a range that ends before it begins.
            is_empty = len(bounds) == 2 and bounds["gte"] > bounds["lte"]
            if is_empty or not all(_possible(item.value, _MAX_RANGE_KEY) for item in self._lookups):
                return ListingPage([], next=None, previous=None)
            return listing.page(
                partitions,
                limit=limit,
                keep=lambda record: all(item.fulfilled_by(record) for item in self._lookups),
                within=_within(listing.range_key, bounds),
                start=start,
                backward=backward,
            )
        raise self._unserved()

    def _unserved(self) -> Unserved:
        asked = ", ".join(f"{lookup.field}__{lookup.comparison}" for lookup in self._lookups) or "everything"
        return Unserved(f"no key or index of {self._kind.__name__} serves a query for {asked}")

    def _equal(self, field: str | None) -> Lookup | None:
        return next((item for item in self._lookups if item.field == field and item.comparison == "exact"), None)

    def _one(self) -> Callable[[], Iterator[R]] | None:
        served = [lookup for lookup in (self._equal(self._hash), self._equal(self._range)) if lookup]
        keys = [lookup.value for lookup in served]
        if self._partition and served and served[-1].field == self._range and len(served) == 1:
            keys = [self._partition(str(keys[0])), *keys]
        if len(keys) < (2 if self._range else 1):
            return None

        def find() -> Iterator[R]:
            if _possible(keys[0], _MAX_HASH_KEY) and all(_possible(key, _MAX_RANGE_KEY) for key in keys[1:]):
                yield from self._remaining([self._kind.find(*keys)], served)

        return find

    def _batch(self) -> Callable[[], Iterator[R]] | None:
        if self._range and not self._partition:
            return None
        name = self._range if self._partition else self._hash
        served = [lookup for lookup in self._lookups if lookup.field == name and lookup.comparison == "in"]
        if not served:
            return None
        keys = list(dict.fromkeys(key for key in served[0].value if _possible(key, _MAX_RANGE_KEY)))
        return lambda: self._remaining(self._found(keys, str(name)), served[:1])

    def _unique_value(self) -> Callable[[], Iterator[R]] | None:
        for field, find in self._unique.items():
            lookup = self._equal(field)
            if lookup:
                value = lookup.value
                return lambda find=find, lookup=lookup: self._remaining(  # type: ignore[misc]
                    [find(value)] if _possible(value, _MAX_RANGE_KEY) else [], [lookup]
                )
        return None

    def _query(self, limit: int | None) -> Callable[[], Iterator[R]] | None:
        if self._range:
            served = self._served_by(self._hash, self._range)
            if served:
                return self._ask(self._kind.query, served, self._kind.get_attributes(), limit, consistent_read=True)
        for index in self._kind._indexes.values():
            served = self._served_by(*_key_names(index))
            if served:
                found = self._ask(index.query, served, index.Meta.attributes, limit)
                return lambda found=found: self._whole(found())  # type: ignore[misc]
        return None

    def _ask(
        self,
        query: Callable[..., Iterable[R]],
        served: list[Lookup],
        keys: Mapping[str, Attribute[Any]],
        limit: int | None,
        **options: Any,
    ) -> Callable[[], Iterator[R]]:
        equal, *others = served
        condition = next((_COMPARISONS[item.comparison](keys[item.field], item.value) for item in others), None)
        if not all(_possible(item.value, _MAX_RANGE_KEY) for item in served):
            return lambda: iter(())
        return lambda: iter(query(equal.value, condition, limit=limit, **options))

    def _served_by(self, hash_name: str, range_name: str | None) -> list[Lookup]:
        """The lookups in the order hash key, range key, if these keys serve all lookups; else an empty list."""
        equal = self._equal(hash_name)
        others = [lookup for lookup in self._lookups if lookup is not equal]
        if equal is None or len(others) > 1:
            return []
        if any(lookup.field != range_name or lookup.comparison == "in" for lookup in others):
            return []
        return [equal, *others]

    def _whole(self, found: Iterable[R]) -> Iterator[R]:
        """Read the whole records, 100 at a time, in the index's order, since an index projects only some attributes."""
        found = iter(found)
        while keys := [getattr(record, self._hash) for record in islice(found, 100)]:
            yield from self._found(keys, self._hash)

    def _found(self, keys: list[Any], name: str) -> Iterator[R]:
        whole = [(self._partition(key), key) for key in keys] if self._partition else keys
        records = {getattr(record, name): record for record in self._kind.find_many(whole)}
        return (records[key] for key in keys if key in records)

    def _remaining(self, records: Iterable[R | None], served: list[Lookup]) -> Iterator[R]:
        others = [lookup for lookup in self._lookups if lookup not in served]
        return (record for record in records if record and all(lookup.fulfilled_by(record) for lookup in others))


def _possible(value: Any, limit: int) -> bool:
    """Whether a key can have this value. DynamoDB would reject other values with an error."""
    if isinstance(value, str):
        try:
            return 1 <= len(value.encode()) <= limit
        except UnicodeEncodeError:
            return False
    return value is not None


def _within(key: Attribute[Any], bounds: Mapping[str, Any]) -> Condition | None:
    if len(bounds) == 2:
        return key.between(bounds["gte"], bounds["lte"])
    return next((_COMPARISONS[comparison](key, value) for comparison, value in bounds.items()), None)


def _key_names(index: Index[Any]) -> tuple[str, str | None]:
    keys = index.Meta.attributes
    return (
        next(name for name, key in keys.items() if key.is_hash_key),
        next((name for name, key in keys.items() if key.is_range_key), None),
    )
