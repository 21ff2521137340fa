"""How many bytes of body each view takes. A larger body is refused by its Content-Length, before a byte of it is read.

Every view takes `BODY_LIMIT` bytes, unless it is declared to take another number: a plain view by the decorator
`body_limit`, a class of views and an admin page by the attribute `body_limit`. The API document has the numbers.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpRequest

from controlplane.lib.errors import ApplicationError, NotAuthenticated, TooLarge

# Enough for every form and for all requests without a text of many lines.
BODY_LIMIT = 16 * 1024

View = TypeVar("View", bound=Callable[..., Any])


def body_limit(limit: int) -> Callable[[View], View]:
    """Declare how many bytes of body a plain view takes."""

    def decorate(view: View) -> View:
        view.body_limit = limit  # type: ignore[attr-defined]
        return view

    return decorate


def view_body_limit(view: Any) -> int:
    """The most bytes of body that the view of a URL pattern takes."""
    # To ask a `DocumentedView` for its `cls` would import the API document.
    attributes = vars(view)
    for holder in (view, attributes.get("cls"), attributes.get("model_admin")):
        limit = getattr(holder, "body_limit", None)
        if isinstance(limit, int):
            return limit
    return BODY_LIMIT


def body_error(request: HttpRequest, view: Any) -> ApplicationError | None:
    """Why the view must not read the body of the request: TooLarge, NotAuthenticated or None.

    The check of a form's CSRF token reads the form before the view asks for its user. So of users who have not signed
    in, no page takes more than `BODY_LIMIT`.
    """
    length = int(request.META.get("CONTENT_LENGTH") or 0)
    if length > (limit := view_body_limit(view)):
        return TooLarge(f"The body is too large for this endpoint. Send at most {limit:,} bytes.")
    if length > BODY_LIMIT and not getattr(view, "csrf_exempt", False) and not request.user.is_authenticated:
        return NotAuthenticated("Please sign in.")
    return None
