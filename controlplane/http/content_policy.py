"""The content security policy of every page."""

from collections.abc import Callable, Iterable

from django.http import HttpRequest, HttpResponse

# Browsers run, load and contact only our own origin, whatever a log or a name injects into a page.
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
    """The same for a page whose forms lead to these origins: browsers apply the policy to a form's redirects, too."""
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", " ".join(["form-action 'self'", *origins]))


class ContentPolicyMiddleware:
    """Adds the policy to each response that a browser may show as a page, also to errors, unless the view set one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response
