"""Pages that lead to a provider."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from controlplane.http.content_policy import policy_with_forms_to
from controlplane.http.problems import problem_headers
from controlplane.lib.errors import ApplicationError


def sign_in_page(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    status: int = 200,
    error: ApplicationError | None = None,
) -> HttpResponse:
    """The page. Its content policy allows forms to go to the providers; an error gives it its status and headers."""
    answer = render(request, template, context, status=error.status if error else status)
    for name, value in problem_headers(error).items() if error else ():
        answer[name] = value
    providers = (urlsplit(url) for url in (settings.GOOGLE_ACCOUNTS_URL, settings.GITHUB_URL))
    answer["Content-Security-Policy"] = policy_with_forms_to(f"{url.scheme}://{url.netloc}" for url in providers)
    return answer
