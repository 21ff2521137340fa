"""Filters of a list. Each compares one field with a fixed set of values."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest


class FieldFilter(SimpleListFilter):
    """Keeps the records whose field equals the chosen value. `values` are pairs of a value and its text for people.

    A subclass sets `title`, `parameter_name` (the field) and `values`; ``make`` creates a subclass from these three.
    """

    values: Iterable[tuple[str, str]] = ()

    @classmethod
    def make(cls, field: str, title: str, values: Iterable[tuple[str, str]]) -> type["FieldFilter"]:
        return type(f"{field.title()}Filter", (cls,), {"parameter_name": field, "title": title, "values": values})

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 — Django's own
        return list(self.values)

    def stored(self, value: str) -> Any:
        """The field's value for one of `values`."""
        return value

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:  # noqa: ARG002 — Django's own
        """The records that match. Raises IncorrectLookupParameters for a value that is not in `values`."""
        value = self.value()
        if value is None:
            return queryset
        if value not in {str(known) for known, _ in self.lookup_choices}:
            raise IncorrectLookupParameters
        return queryset.filter(**{str(self.parameter_name): self.stored(value)})


class YesNoFilter(FieldFilter):
    """For a field that is true or false."""

    values = (("yes", "Yes"), ("no", "No"))

    def stored(self, value: str) -> bool:
        return value == "yes"
