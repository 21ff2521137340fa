"""The content security policy of every page."""

from collections.abc import Callable, Iterable

from django.http import HttpRequest, HttpResponse

# Whatever a log or a name might smuggle into a page: nothing but our own files is run, loaded or talked to.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def policy_with_forms_to(origins: Iterable[str]) -> str:
    """The same for a page whose forms lead on to these origins: browsers hold redirects of a form to it as well."""
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", " ".join(["form-action 'self'", *origins]))


class ContentPolicyMiddleware:
    """Fences in whatever a browser would show as a page, errors too, unless the view has set a policy of its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response
