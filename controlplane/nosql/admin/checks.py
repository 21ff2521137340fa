"""System checks that reject admin options which need SQL, so that they fail at start and not on a page."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin import ShowFacets
from django.contrib.admin.checks import ModelAdminChecks
from django.core.checks import CheckMessage, Error

from controlplane.nosql.facade import Facade

# The options that must keep their defaults, each with what it needs.
_UNSERVED = {
    "inlines": "joins",
    "raw_id_fields": "foreign keys",
    "autocomplete_fields": "foreign keys",
    "radio_fields": "a form made of the model",
    "filter_horizontal": "many-to-many tables",
    "filter_vertical": "many-to-many tables",
    "list_editable": "formsets, which do not check revisions",
    "list_select_related": "joins",
    "date_hierarchy": "grouping by dates",
    "ordering": "sorting; a list has the order of its index",
    "sortable_by": "sorting; a list has the order of its index",
    "prepopulated_fields": "a form made of the model",
    "save_as": "saving without the services",
    "view_on_site": "the jump view",
    "actions": "the decorator `act` instead",
}


class NosqlModelAdminChecks(ModelAdminChecks):
    """Django's checks and the checks ``nosql.E001`` to ``nosql.E005``."""

    def check(self, admin_obj: Any, **kwargs: Any) -> list[CheckMessage]:
        return [*super().check(admin_obj, **kwargs), *self._unserved(admin_obj)]

    def _unserved(self, page: Any) -> Iterator[CheckMessage]:
        for option, need in _UNSERVED.items():
            if getattr(page, option):
                yield _error(page, f"{option} is not supported: it needs {need}.", 1)
        if page.show_facets is not ShowFacets.NEVER or page.show_full_result_count:
            yield _error(page, "facets and full counts are not supported: they need counting.", 2)
        for entry in page.list_filter:
            if not (isinstance(entry, type) and hasattr(entry, "stored")):
                yield _error(page, f"list_filter {entry!r} must be a FieldFilter.", 3)
        if not issubclass(page.model, Facade) or not page.model.listings:
            yield _error(page, "its model must be a facade that declares listings.", 4)
        for field in page.model._meta.get_fields():
            if field.is_relation:
                yield _error(page, f"its model must not have relations, but has {field.name}.", 5)


def _error(page: Any, message: str, number: int) -> Error:
    return Error(f"{type(page).__name__}: {message}", obj=type(page), id=f"nosql.E{number:03}")
