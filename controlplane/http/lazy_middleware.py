"""Django's middleware for users and messages, for a process that serves mostly agents.

Django's own modules import the forms and pages for passwords, and make a store of messages for each request. These make
what a page asks for when it asks.
"""

from collections.abc import Callable
from functools import partial

from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

_Next = Callable[[HttpRequest], HttpResponse]


class UserMiddleware:
    """Sets ``request.user`` to the user of the session, who is read at the first use."""

    def __init__(self, get_response: _Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.user = SimpleLazyObject(partial(_user, request))  # type: ignore[assignment]
        return self.get_response(request)


def _user(request: HttpRequest) -> object:
    """The user, also where Django keeps it, so that the log line knows whether it was read."""
    request._cached_user = auth.get_user(request)  # type: ignore[attr-defined]
    return request._cached_user  # type: ignore[attr-defined]


class MessageMiddleware:
    """Keeps the messages for a user's next page, as ``django.contrib.messages`` does.

    A store that no view and no page has used has nothing to keep.
    """

    def __init__(self, get_response: _Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        made = []

        def make() -> object:
            from django.contrib.messages.storage import default_storage

            made.append(default_storage(request))
            return made[0]

        # Where django.contrib.messages looks for it.
        request._messages = SimpleLazyObject(make)  # type: ignore[attr-defined]
        response = self.get_response(request)
        for messages in made:
            messages.update(response)
        return response
