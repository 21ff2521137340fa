"""A job's `logs_url` in a browser: people get the job's page, and programs the log."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.cache import patch_vary_headers

View = Callable[..., HttpResponseBase]


def page_for_browsers(view: View) -> View:
    """Redirect a browser that opens the bare address to the job's page, which asks people to sign in first.

    All else is for `view`: a request with a query or with credentials in its header, and one that takes the log as well
    as a page, as those of programs and of our own pages do.
    """

    @wraps(view)
    def choose(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
        response = redirect("dashboard:job", **arguments) if _is_browser(request) else view(request, **arguments)
        patch_vary_headers(response, ["Accept", "Authorization"])
        return response

    return choose


def _is_browser(request: HttpRequest) -> bool:
    if request.method not in ("GET", "HEAD") or request.GET or "Authorization" in request.headers:
        return False
    return request.get_preferred_type(["text/plain", "text/html"]) == "text/html"
