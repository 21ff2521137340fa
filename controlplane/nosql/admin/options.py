"""The base of all admin pages of records: it reads through facades instead of SQL, and only services write."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, cast

from django.contrib import messages
from django.contrib.admin import ModelAdmin, ShowFacets, display
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput
from controlplane.nosql.admin.changelist import CursorChangeList
from controlplane.nosql.admin.checks import NosqlModelAdminChecks
from controlplane.nosql.admin.forms import RecordForm, SearchForm, form_bound
from controlplane.nosql.admin.site import History, RecordSite
from controlplane.nosql.facade import Facade

# The field of a POST that says that the user has confirmed the question.
CONFIRMED = "confirmed"


@dataclass(frozen=True)
class RecordAct:
    """An action on records that their list and their page offer. It calls the service once for each record.

    `confirm` is the question that the user must confirm first, if any; `done` begins the success message.
    """

    description: str
    permission: str
    call: Callable[[Any, Actor, Any], object]
    confirm: str | None
    done: str


def act(
    description: str, *, permission: str, done: str, confirm: str | None = None
) -> Callable[[Callable[[Any, Actor, Any], object]], RecordAct]:
    """Declare a method ``(self, actor, facade)`` of an admin page as an act for users with the permission."""

    def decorate(method: Callable[[Any, Actor, Any], object]) -> RecordAct:
        return RecordAct(description, permission, method, confirm, done)

    return decorate


def moment(field: str, *, exact_to: str = "") -> Callable[[Any], str]:
    """A column or detail that shows a time to the second in UTC. The record may store it as text or as a datetime.

    Its title says what the time is `exact_to`, if the record notes it less often.
    """
    title = field.removesuffix("_at").replace("_", " ") + (f" (to the {exact_to})" if exact_to else "")

    @display(description=title, empty_value="-")
    def shown(obj: Any) -> str:
        value = getattr(obj.record, field)
        text = clock.timestamp(value) if isinstance(value, datetime) else str(value or "")
        return text[:19].replace("T", " ")

    shown.__name__ = field
    return shown


def duration(begin: str, end: str) -> Callable[[Any], str]:
    """A column or detail that shows the time between two times of the record; a dash before the end."""

    @display(description="duration", empty_value="-")
    def duration_shown(obj: Any) -> str:
        began, ended = getattr(obj.record, begin), getattr(obj.record, end)
        if not (began and ended):
            return ""
        return clock.duration_text((clock.parse_timestamp(ended) - clock.parse_timestamp(began)).total_seconds())

    return duration_shown


class NosqlModelAdmin(ModelAdmin):  # type: ignore[type-arg]
    """The admin page of a facade.

    `permissions` names the permissions for "view", "add", "change" and "delete". Without one, the page denies that
    operation to all users. `form` and `add_form` are `RecordForm`s. `details` are read-only fields. Methods decorated
    by `act` are acts. Deleting calls `record_delete`. Searching calls `search` with the term of the search box; a page
    with a `search_form` has that instead. `history_kind` is the kind of the record in the audit trail (``user`` in
    ``user:01ka…``).
    """

    checks_class = NosqlModelAdminChecks
    actions: Sequence[Any] = ()
    sortable_by = ()
    show_facets = ShowFacets.NEVER
    show_full_result_count = False
    list_per_page = 50
    view_on_site = False
    delete_confirmation_template = "admin/record_delete.html"

    form = RecordForm
    permissions: ClassVar[Mapping[str, str]] = {}
    details: ClassVar[Sequence[str | Callable[[Any], str]]] = ()
    add_form: ClassVar[type[RecordForm] | None] = None
    search_form: ClassVar[type[SearchForm] | None] = None
    history_kind: ClassVar[str] = ""
    # The consequences of deleting a record, for the page that asks for confirmation.
    delete_note: ClassVar[str] = ""

    admin_site: RecordSite

    # Subclasses override these.

    def list_note(self, request: HttpRequest) -> str:  # noqa: ARG002 — for pages whose note depends on it
        """A sentence above the list that explains it, or an empty text."""
        return ""

    def search(self, queryset: Any, term: str) -> Any:
        """The records that match the search term, which is not empty."""
        raise NotImplementedError

    def record_delete(self, actor: Actor, obj: Any) -> None:
        """Delete the record by its service."""
        raise NotImplementedError

    def history(self, obj: Any, cursor: str | None) -> History:
        """A page of the audit events of the record."""
        return self.admin_site.history_of([self.history_target(obj)], cursor, {})

    def history_target(self, obj: Any) -> str:
        """The record as a target of the audit trail, ``kind:id``."""
        return f"{self.history_kind}:{obj.pk}"

    # Permissions. The actor has the same permissions here as in the API.

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 — Django's own
        return self.admin_site.allows(request, self.permissions.get("view"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.admin_site.allows(request, self.permissions.get("add"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 — Django's own
        return self.admin_site.allows(request, self.permissions.get("change"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 — Django's own
        return self.admin_site.allows(request, self.permissions.get("delete"))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    # Lists.

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[CursorChangeList]:  # noqa: ARG002 — Django's own
        return CursorChangeList

    def get_queryset(self, request: HttpRequest) -> Any:  # noqa: ARG002 — Django's own
        return self.model._default_manager.get_queryset()

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:  # noqa: ARG002
        """The record with this key, or None. No page refers to a record by another field."""
        return self.get_queryset(request).filter(pk=object_id).first()

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:  # noqa: ARG002 — Django's own
        """Whether the page declares this filter. Django would allow every field of the model."""
        return lookup in {entry.parameter_name for entry in cast("Iterable[Any]", self.list_filter)}

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:  # noqa: ARG002
        term = search_term.strip()
        return (self.search(queryset, term) if term and self.search_fields else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list. A cursor of another list redirects to the first page with a warning."""
        try:
            return super().changelist_view(request, extra_context)
        except InvalidInput as error:
            if error.code != "invalid_cursor" or request.method != "GET":
                raise
            message = "The link does not belong to this list. This is the first page."
            self.message_user(request, message, messages.WARNING)
            query = request.GET.copy()
            del query[PAGE_VAR]
            return HttpResponseRedirect(f"{request.path}?{query.urlencode()}")

    # Forms.

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **_: Any) -> type[RecordForm]:  # noqa: ARG002
        form = (self.form if change else self.add_form) or RecordForm
        return form_bound(form, cast("type[Facade]", self.model), self.admin_site.actor_of(request))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        if obj is None:
            form = self.add_form or RecordForm
            return list(form.field_order or form.base_fields)
        editable = list(self.form.base_fields)
        if not self.has_change_permission(request, obj):
            # The page shows fields of the record. Other fields of the form are only for changing it.
            known = {field.name for field in self.opts.get_fields()}
            editable = [name for name in editable if name in known and name != self.form.revision_field]
        return [*editable, *self.details]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ARG002 — Django's own
        return self.details if obj is not None else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:  # noqa: ARG002 — Django's own
        """Ignore the query: a link must not fill in a form."""
        return {}

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if context.get("original") is not None:
            context["record_acts"] = [(name, found.description) for name, found in self.acts(request).items()]
        return super().render_change_form(request, context, *args, **kwargs)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """The form. Raises InvalidInput for Django's "save as new", which would create a record by the wrong form."""
        if "_saveasnew" in request.POST:
            raise InvalidInput("You cannot save this record as a new one. Use the form for adding instead.")
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: Any, obj: Any, form: Any, change: Any) -> None:
        """Do nothing: the form has already called the service."""

    def save_related(self, request: Any, form: Any, formsets: Any, change: Any) -> None:
        """Do nothing: a record has no related objects."""

    def construct_change_message(self, request: Any, form: Any, formsets: Any, add: bool = False) -> list[Any]:  # noqa: ARG002
        """Return nothing: the service has recorded the audit event."""
        return []

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> Any:
        """Redirect to the list; or show the new record's secret, which no later page shows."""
        if not getattr(obj, "secret", ""):
            return super().response_add(request, obj, post_url_continue)
        context = {
            **self.admin_site.each_context(request),
            "title": f"The new {self.opts.verbose_name}",
            "opts": self.opts,
            "object": obj,
            "secret": obj.secret,
            "list_url": self._list_url(),
        }
        return TemplateResponse(request, "admin/record_secret.html", context, headers={"Cache-Control": "no-store"})

    def log_addition(self, request: Any, obj: Any, message: Any) -> Any:
        """Do nothing: the service has recorded the audit event in its transaction."""

    log_change = log_addition

    def log_deletions(self, request: Any, queryset: Any) -> Any:
        """Do nothing: the service records the audit event."""

    # Deleting.

    def get_deleted_objects(self, objs: Any, request: Any) -> tuple[list[str], dict[str, int], set[str], list[str]]:  # noqa: ARG002
        """The objects themselves: deleting a record deletes no others."""
        return [str(obj) for obj in objs], {str(self.opts.verbose_name): len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.record_delete(self.admin_site.actor_of(request), obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Delete the record. If the service refuses, the list shows its message."""
        try:
            return super().delete_view(request, object_id, {"delete_note": self.delete_note, **(extra_context or {})})
        except ApplicationError as error:
            if isinstance(error, Forbidden):
                raise
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(self._list_url())

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:  # noqa: ARG002
        """Redirect to the list with a warning."""
        self.message_user(
            request, f"This {self.opts.verbose_name} does not exist. It may have been deleted.", messages.WARNING
        )
        return HttpResponseRedirect(self._list_url())

    def _list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    # Acts.

    def acts(self, request: HttpRequest) -> dict[str, RecordAct]:
        """The acts for which the user has the permission, by name."""
        return {
            name: entry
            for name, entry in vars(type(self)).items()
            if isinstance(entry, RecordAct) and self.admin_site.allows(request, entry.permission)
        }

    def response_action(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the action for the ticked records only: "all pages" could include records that were added since."""
        data: Any = request.POST.copy()
        data.pop("select_across", None)
        request.POST = data
        return super().response_action(request, queryset, *args, **kwargs)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """The acts as Django's actions, without Django's action that deletes several objects."""
        return {name: (_action(name, entry), name, entry.description) for name, entry in self.acts(request).items()}

    def _do(self, request: HttpRequest, name: str, entry: RecordAct, queryset: Any) -> HttpResponse | None:
        """Ask for confirmation if the act needs it; then call it for each record and show the results."""
        objects = list(queryset)
        if not objects:
            self.message_user(request, "The selected records no longer exist.", messages.WARNING)
            return None
        if entry.confirm and CONFIRMED not in request.POST:
            return self._ask(request, name, entry, objects)
        actor = self.admin_site.actor_of(request)
        done = []
        for obj in objects:
            try:
                entry.call(self, actor, obj)
            except Forbidden:
                raise
            except ApplicationError as error:
                self.message_user(request, f"{obj}: {error.message}", messages.ERROR)
            else:
                done.append(str(obj))
        if done:
            self.message_user(request, f"{entry.done}: {', '.join(done)}.", messages.SUCCESS)
        return None

    def _ask(self, request: HttpRequest, name: str, entry: RecordAct, objects: Sequence[Any]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{entry.description}?",
            "opts": self.opts,
            "objects": objects,
            "question": entry.confirm,
            "description": entry.description,
            "action_name": name,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "confirmed_name": CONFIRMED,
            "list_url": self._list_url(),
        }
        return TemplateResponse(request, "admin/record_act.html", context)

    # History.

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        """The audit events of the record, newest first."""
        obj = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        if obj is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        try:
            found = self.history(obj, request.GET.get(PAGE_VAR))
        except InvalidInput as error:
            self.message_user(request, error.message, messages.WARNING)
            return HttpResponseRedirect(request.path)
        context = {
            **self.admin_site.each_context(request),
            "title": f"History: {obj}",
            "opts": self.opts,
            "object": obj,
            "history": found,
            "page_var": PAGE_VAR,
        }
        return TemplateResponse(request, "admin/object_history.html", context)


def _action(name: str, entry: RecordAct) -> Callable[[NosqlModelAdmin, HttpRequest, Any], HttpResponse | None]:
    def action(page: NosqlModelAdmin, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return page._do(request, name, entry, queryset)

    return action
