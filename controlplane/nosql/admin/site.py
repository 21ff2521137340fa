"""The one admin site. The project connects it to its users and its audit trail, so that it depends on no app."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import Resolver404, URLPattern, URLResolver, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.i18n import JavaScriptCatalog

from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden
from controlplane.nosql.admin.content_types import content_types_seed

# Pages of Django's admin that need missing tables, or that the product has its own pages for.
_DROPPED = frozenset({"autocomplete", "password_change", "password_change_done", "view_on_site"})


@dataclass(frozen=True)
class HistoryEntry:
    """One line of a history, in words for people: when, which actor, which action, on which target."""

    at: datetime
    who: str
    what: str
    target: str
    detail: str = ""


@dataclass(frozen=True)
class History:
    """A page of a history, newest first. `next_cursor` continues it and is None on the last page."""

    entries: Sequence[HistoryEntry]
    next_cursor: str | None = None


# Gives a page of the audit events of the targets (``["user:01ka…"]``) whose detail has these members. It continues at
# the cursor, or begins with the newest event for None.
HistoryOf = Callable[[Sequence[str], str | None, Mapping[str, str]], History]


class RecordSite(AdminSite):
    """An admin site for records. It uses the actor's permissions and the product's pages for signing in and out."""

    site_title = "Hybrid CI"
    site_header = "Hybrid CI administration"
    index_title = "Administration"
    # Set by `connect`. `recent` gives the last audit events that the actor may see.
    actor_of: Callable[[HttpRequest], Actor]
    history_of: HistoryOf
    recent: Callable[[Actor], Sequence[HistoryEntry]]

    @property
    def site_url(self) -> str:  # type: ignore[override]
        """The address of the product's first page, below the stage of the request."""
        return resolve_url(settings.LOGIN_REDIRECT_URL)

    def connect(
        self,
        *,
        actor_of: Callable[[HttpRequest], Actor],
        history_of: HistoryOf,
        recent: Callable[[Actor], Sequence[HistoryEntry]],
    ) -> None:
        """Set how the site finds a request's actor and the audit events. Call it once, before the first request."""
        self.actor_of, self.history_of, self.recent = actor_of, history_of, recent

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register as Django does, and add the model's content type."""
        super().register(model_or_iterable, admin_class, **options)
        content_types_seed()

    def allows(self, request: HttpRequest, permission: str | None) -> bool:
        """Whether the actor of the request has the permission now. False for None."""
        return permission is not None and permission in self.actor_of(request).permissions

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the user may see at least one page."""
        user = request.user
        return bool(user.is_active and user.is_authenticated) and any(
            page.has_module_permission(request) for page in self._registry.values()
        )

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002 — Django's own
        """Redirect to the product's sign-in page and back. Raises Forbidden for a signed-in user without permission."""
        page = request.GET.get("next", "")
        if not url_has_allowed_host_and_scheme(page, None):
            page = reverse("admin:index")
        if not request.user.is_authenticated:
            return redirect_to_login(page)
        if not self.has_permission(request):
            raise Forbidden("Your role cannot use the administration pages. Ask an admin for another role.")
        return HttpResponseRedirect(page)

    def logout(self, request: HttpRequest, extra_context: Any = None) -> Any:  # noqa: ARG002 — Django's own
        """Raises Http404: the product has its own page for this, but Django needs the address."""
        raise Http404

    def i18n_javascript(self, request: HttpRequest, extra_context: Any = None) -> Any:  # noqa: ARG002 — Django's own
        """The translated texts of the admin's scripts, for the name of this package instead of Django's."""
        return JavaScriptCatalog.as_view(packages=[__package__])(request)

    def get_urls(self) -> list[Any]:
        urls: list[URLPattern | URLResolver] = super().get_urls()
        return [entry for entry in urls if getattr(entry, "name", None) not in _DROPPED]

    def catch_all_view(self, request: HttpRequest, url: str) -> HttpResponse:
        """Redirect to the address with a slash, if it is an admin page. Raises Http404 otherwise."""
        if not url.endswith("/"):
            try:
                found = resolve(f"{request.path_info}/")
            except Resolver404:
                raise Http404 from None
            if found.url_name:
                return HttpResponseRedirect(request.get_full_path(force_append_slash=True))
        raise Http404

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().index(request, {"recent_events": self.recent(self.actor_of(request)), **(extra_context or {})})

    def get_log_entries(self, request: HttpRequest) -> Any:  # noqa: ARG002 — Django's own
        """Return nothing: the audit trail replaces Django's log."""
        return ()


site = RecordSite(name="admin")
