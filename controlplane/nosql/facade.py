"""Facades: unmanaged Django models with the name and attributes of a record, and a manager without SQL."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from django.db import models
from django.db.models.base import ModelBase
from pynamodb.attributes import (
    Attribute,
    BooleanAttribute,
    NumberAttribute,
    TTLAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)

from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, Place
from controlplane.nosql.query import Lookup, RecordQuery
from controlplane.nosql.record import Record

F = TypeVar("F", bound="Facade")

_FIELDS: dict[type[Attribute[Any]], "type[models.Field[Any, Any]]"] = {
    BooleanAttribute: models.BooleanField,
    NumberAttribute: models.IntegerField,
    TTLAttribute: models.DateTimeField,
    UTCDateTimeAttribute: models.DateTimeField,
    UnicodeAttribute: models.CharField,
}


@frozen
class FacadePage(Generic[F]):
    """A page of a list, with signed cursors of the next and the previous page (None if there is no such page)."""

    objects: list[F]
    next_cursor: str | None = None
    previous_cursor: str | None = None


class RecordQuerySet(Generic[F]):
    """The part of Django's queryset API that `RecordQuery` can serve. Like Django's, it reads when it is evaluated.

    The other methods of a queryset would need SQL.
    """

    def __init__(self, model: type[F], lookups: Iterable[Lookup] = ()) -> None:
        self.model = model
        self._lookups = tuple(lookups)

    def all(self) -> "RecordQuerySet[F]":
        return self

    def filter(self, **conditions: Any) -> "RecordQuerySet[F]":
        """The records that fulfil these conditions too; ``pk`` is the key, comparisons are those of `Lookup`."""
        new = []
        for name, value in conditions.items():
            if name == "pk" or name.startswith("pk__"):
                name = self.model._meta.pk.name + name[2:]
            new.append(Lookup.parse(name, value))
        return RecordQuerySet(self.model, (*self._lookups, *new))

    def get(self, **conditions: Any) -> F:
        """The one record that fulfils the conditions. Raises the model's DoesNotExist or MultipleObjectsReturned."""
        found = list(self.filter(**conditions)._run(limit=2))
        if not found:
            raise self.model.DoesNotExist(f"There is no such {self.model._meta.verbose_name}.")
        if len(found) > 1:
            raise self.model.MultipleObjectsReturned(f"More than one {self.model._meta.verbose_name} matches.")
        return found[0]

    def first(self) -> F | None:
        return next(self._run(limit=1), None)

    def exists(self) -> bool:
        return self.first() is not None

    def __iter__(self) -> Iterator[F]:
        return self._run()

    def page(self, *, limit: int, cursor: str | None = None) -> FacadePage[F]:
        """A page of the records that match, in the order of the model's listing. Without a cursor, the first page.

        Raises InvalidInput (``invalid_cursor``) for a cursor of another list, Unserved if no listing serves the query.
        """
        start, backward = self._place(cursor) if cursor else (None, False)
        page = self._query().page(limit=limit, start=start, backward=backward)
        return FacadePage(
            [self.model.from_record(record) for record in page.records],
            next_cursor=cursor_encode(self._scope, {"after": page.next}) if page.next else None,
            previous_cursor=cursor_encode(self._scope, {"before": page.previous}) if page.previous else None,
        )

    @property
    def _scope(self) -> str:
        asked = sorted((lookup.field, lookup.comparison, repr(lookup.value)) for lookup in self._lookups)
        return f"facade {self.model._meta.label} {asked}"

    def _place(self, cursor: str) -> tuple[Place, bool]:
        key = cursor_decode(self._scope, cursor)
        return (key["before"], True) if "before" in key else (key["after"], False)

    def _query(self) -> RecordQuery[Any]:
        return RecordQuery(
            self.model.record_kind,
            self._lookups,
            self.model.unique_lookups,
            partition=self.model.partition,
            listings=self.model.listings,
        )

    def _run(self, limit: int | None = None) -> Iterator[F]:
        return (self.model.from_record(record) for record in self._query().run(limit))


class RecordManager(models.Manager["Facade"]):
    """The manager of a facade. Its querysets are `RecordQuerySet`s."""

    def get_queryset(self) -> RecordQuerySet[Any]:  # type: ignore[override]
        return RecordQuerySet(self.model)

    def get_by_natural_key(self, value: str) -> "Facade":
        """The record with this user name, for Django's sign-in backends."""
        found: Facade = self.get_queryset().get(**{self.model.USERNAME_FIELD: value})  # type: ignore[attr-defined]
        return found


class FacadeBase(ModelBase):
    """Gives a class declared with ``record=Kind`` the record's name and fields for the record's attributes."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        attrs: dict[str, Any],
        record: type[Record] | None = None,
        hidden: Collection[str] = (),
        only_partition: str | None = None,
        **kwargs: Any,
    ) -> type:
        if record is None:
            return super().__new__(mcs, name, bases, attrs, **kwargs)
        if only_partition is not None:
            attrs = {**_one_partition(record, only_partition), **attrs}
        own_key = next((name for name, value in attrs.items() if getattr(value, "primary_key", False)), None)
        if record._range_keyname and "partition" not in attrs and own_key is None:
            raise TypeError(
                f"{record.__name__} has a range key, and Django's models have one primary key; "
                "if the range key alone is unique, declare `partition`, which returns the hash key for it, "
                "or name the `only_partition`; else declare a primary key and how `unique_lookups` find it"
            )
        key = own_key or record._range_keyname or record._hash_keyname
        fields = {
            field: _field(attribute, is_key=field == key)
            for field, attribute in record.get_attributes().items()
            if field not in hidden
        }
        return super().__new__(mcs, record.__name__, bases, {**fields, **attrs, "record_kind": record}, **kwargs)


class Facade(models.Model, metaclass=FacadeBase):
    """The base of facades: ``class UserFacade(Facade, record=User)`` is what Django knows as the model ``User``.

    A class may declare a field of another type (an e-mail address, choices) as usual. `hidden` names the attributes
    that Django must not see: ``record=Session, hidden=("data",)``. `only_partition` is the hash key of records that are
    all in one partition: ``record=Secret, only_partition=SPACE``. They are found by their range key and listed in its
    order, without a `partition` and `listings` of the class. Of a record whose key has two parts that only together are
    unique, the class declares its own primary key, which is an attribute or a property of the record, and finds it by
    `unique_lookups`. Facades only read. Services change records, since they
    check the rules and write the audit trail.
    """

    record_kind: ClassVar[type[Record]]
    # The orders in which the records can be listed. A list uses the first one that serves its conditions.
    listings: ClassVar[Sequence[Listing[Any]]] = ()
    # Fields whose value is unique, each with a function that finds the record by the value.
    unique_lookups: ClassVar[dict[str, Callable[[Any], Record | None]]] = {}

    objects = RecordManager()

    class Meta:
        abstract = True
        managed = False

    # The record that was read, or None for a facade that was created without one.
    record: Any = None

    def save(self, *_args: Any, **_options: Any) -> None:
        """Raises TypeError: only services write records."""
        raise TypeError(f"a {self._meta.verbose_name} is written by the services of its app")

    @classmethod
    def partition(cls, key: str) -> str:
        """The hash key for the range key `key`. Only for records whose range key alone is unique."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """The facade of a record that was read. Its attribute `record` is that record."""
        made = cls(**{field.attname: getattr(record, field.attname) for field in cls._meta.concrete_fields})
        made._state.adding = False
        made._state.db = "default"
        made.record = record
        return made


def _one_partition(record: type[Record], key: str) -> dict[str, Any]:
    """The members of a facade whose records are all in the partition `key`."""
    return {
        "listings": (Listing(record, None, lambda _asked: [key]),),
        "partition": staticmethod(lambda _range_key: key),
    }


def _field(attribute: Attribute[Any], *, is_key: bool) -> "models.Field[Any, Any]":
    """Django's field for an attribute: a JSONField for types without a field of their own."""
    kind = next((field for base, field in _FIELDS.items() if isinstance(attribute, base)), models.JSONField)
    options: dict[str, Any] = {"primary_key": True} if is_key else {}
    if kind is not models.BooleanField:
        options |= {"null": attribute.null, "blank": attribute.null}
    if attribute.default is not None:
        options["default"] = attribute.default
    if kind is models.CharField:
        # DynamoDB limits only the size of the whole item.
        options["max_length"] = 2048
    return kind(**options)
