"""What all pages share: the permission check, the context of their templates, and how live parts refresh."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.views.decorators.http import require_http_methods

from apps.accounts.authentication import page_permission
from apps.accounts.policies import Permission
from controlplane.lib.errors import InvalidInput

View = Callable[..., HttpResponse]

# Seconds between two refreshes of a page: while a job is active, and otherwise.
BUSY_SECONDS = 2
QUIET_SECONDS = 15


def page(permission: Permission, *methods: str, form_at: str = "") -> Callable[[View], View]:
    """Make a view a page that requires `permission` and that no shared cache stores.

    An address that only takes forms stays in the browser when a form is refused. Opened again, it leads to the page
    with the form: to the one named `form_at`, or else to the nearest one above it.
    """

    def decorate(view: View) -> View:
        guarded = require_http_methods(methods or ["GET", "HEAD"])(page_permission(permission)(view))
        takes_forms_only = methods == ("POST",)

        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if takes_forms_only and request.method in ("GET", "HEAD"):
                response: HttpResponse = redirect(
                    reverse(f"dashboard:{form_at}", args=args, kwargs=kwargs) if form_at else _page_above(request)
                )
            else:
                response = guarded(request, *args, **kwargs)
            patch_vary_headers(response, ["Cookie", "HX-Request"])
            patch_cache_control(response, private=True, no_cache=True)
            return response

        answer.takes_forms_only = takes_forms_only  # type: ignore[attr-defined]
        return answer

    return decorate


def _page_above(request: HttpRequest) -> str:
    """The address of the nearest page above the requested address."""
    path = request.path_info
    while "/" in path.removeprefix("/dashboard/"):
        path = path.rpartition("/")[0]
        try:
            found = resolve(path)
        except Resolver404:
            continue
        if not getattr(found.func, "takes_forms_only", False):
            return reverse(found.view_name, args=found.args, kwargs=found.kwargs)
    return reverse("dashboard:overview")


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx requests a part of a page."""
    return bool(request.htmx)  # type: ignore[attr-defined]


def show(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Render ``dashboard/<template>.html``, or only its live part (``dashboard/<template>_live.html``) for htmx."""
    suffix = "_live" if is_fragment(request) else ""
    return render(request, f"dashboard/{template}{suffix}.html", {**shared_context(request), **context})


def shared_context(request: HttpRequest) -> dict[str, Any]:
    """The context of every page: the address to show in commands."""
    return {
        "base_url": request.build_absolute_uri(request.META.get("SCRIPT_NAME", "") or "/").rstrip("/"),
    }


def actions_context(request: HttpRequest, **offered: bool) -> dict[str, Any]:
    """The context of buttons outside of the live part: which are `offered`, and whether a refresh replaces them.

    It does only when others are offered than the page has (`seen`): what a user types beside them, and the focus, stay.
    """
    names = " ".join(name for name, is_offered in offered.items() if is_offered)
    return {"offered": names, "with_actions": is_fragment(request) and request.GET.get("seen") != names}


def refresh_seconds(*, busy: bool) -> int:
    """Seconds until a live part refreshes again."""
    return BUSY_SECONDS if busy else QUIET_SECONDS


def number_parameter(request: HttpRequest, name: str) -> int:
    """A query parameter that is a whole number; 0 if it is not given. Raises InvalidInput."""
    text = request.GET.get(name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidInput.field(name, "must be a whole number")
    return int(text)
