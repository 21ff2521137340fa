"""A list of records in pages, with signed cursors instead of page numbers. It neither counts nor sorts."""

from typing import Any, Literal

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.http import HttpRequest

from controlplane.nosql.admin.forms import SearchForm
from controlplane.nosql.facade import FacadePage


class CursorChangeList(ChangeList):
    """Django's change list over `RecordQuerySet.page`. The page parameter of the address is a cursor, not a number."""

    page: FacadePage[Any]
    model_admin: Any
    # The page's search form with the values of the address, if the page has one.
    search_form: SearchForm | None = None

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:  # noqa: ARG002 — Django's own
        """The records that match the filters and the search. Raises IncorrectLookupParameters for an unknown filter."""
        if self.model_admin.search_form:
            self.search_form = self.model_admin.search_form(request.GET)
        self.filter_specs, self.has_filters, remaining, _, self.has_active_filters = self.get_filters(request)
        if remaining:
            raise IncorrectLookupParameters
        queryset: Any = self.root_queryset
        for spec in self.filter_specs:
            queryset = spec.queryset(request, queryset)
        self.clear_all_filters_qs = self.get_query_string(remove=list(self.get_filters_params()))
        if self.search_form and self.search_form.is_valid():
            queryset = queryset.filter(**self.search_form.conditions())
        found, _ = self.model_admin.get_search_results(request, queryset, self.query)
        return found

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """The parameters of the address that are filters, and no fields of the search form."""
        fields = self.search_form.fields if self.search_form else ()
        return {name: value for name, value in super().get_filters_params(params).items() if name not in fields}

    def get_results(self, request: HttpRequest) -> None:
        """Read one page; none if the search form has errors. Raises InvalidInput for a cursor of another list."""
        self.note = self.model_admin.list_note(request)
        if self.search_form and not self.search_form.is_valid():
            self.page = FacadePage([])
        else:
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
