"""A list of records in pages, with signed cursors instead of page numbers. It neither counts nor sorts."""

from typing import Any, Literal

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.http import HttpRequest

from controlplane.nosql.facade import FacadePage


class CursorChangeList(ChangeList):
    """Django's change list over `RecordQuerySet.page`. The page parameter of the address is a cursor, not a number."""

    page: FacadePage[Any]
    model_admin: Any

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:  # noqa: ARG002 — Django's own
        """The records that match the filters and the search. Raises IncorrectLookupParameters for an unknown filter."""
        self.filter_specs, self.has_filters, remaining, _, self.has_active_filters = self.get_filters(request)
        if remaining:
            raise IncorrectLookupParameters
        queryset: Any = self.root_queryset
        for spec in self.filter_specs:
            queryset = spec.queryset(request, queryset)
        self.clear_all_filters_qs = self.get_query_string(remove=list(self.get_filters_params()))
        found, _ = self.model_admin.get_search_results(request, queryset, self.query)
        return found

    def get_results(self, request: HttpRequest) -> None:
        """Read one page. Raises InvalidInput for a cursor of another list."""
        self.note = self.model_admin.list_note(request)
        self.page = self.queryset.page(limit=self.list_per_page, cursor=request.GET.get(PAGE_VAR))
        self.result_list = self.page.objects
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = None

    @property
    def next_page(self) -> str | None:
        """The link to the next page, or None on the last page."""
        return self._link(self.page.next_cursor)

    @property
    def previous_page(self) -> str | None:
        """The link to the previous page, or None on the first page."""
        return self._link(self.page.previous_cursor)

    def _link(self, cursor: str | None) -> str | None:
        return self.get_query_string({PAGE_VAR: cursor}) if cursor else None

    def get_ordering_field_columns(self) -> dict[int, Literal["desc", "asc"]]:
        """Columns cannot be sorted."""
        return {}
