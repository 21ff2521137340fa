"""Users and messages of pages: made when a page asks for them."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib import messages
from django.contrib.messages.storage.cookie import CookieStorage
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from controlplane.http.lazy_middleware import MessageMiddleware, UserMiddleware


@pytest.fixture(autouse=True)
def cookies() -> Iterator[None]:
    with override_settings(MESSAGE_STORAGE="django.contrib.messages.storage.cookie.CookieStorage"):
        yield


def through(view: Any, cookie: str | None = None) -> HttpResponse:
    request = RequestFactory().get("/")
    if cookie is not None:
        request.COOKIES["messages"] = cookie
    return MessageMiddleware(view)(request)


def shown(request: HttpRequest) -> HttpResponse:
    return HttpResponse("; ".join(str(message) for message in messages.get_messages(request)))


def test_a_message_is_kept_until_a_page_shows_it() -> None:
    def add(request: HttpRequest) -> HttpResponse:
        messages.info(request, "It is done.")
        return HttpResponse()

    kept = through(add).cookies["messages"].value
    page = through(shown, kept)
    assert page.content == b"It is done."
    # The browser forgets it.
    assert page.cookies["messages"].value == ""


def test_a_request_without_messages_makes_no_store_and_keeps_those_that_wait() -> None:
    with patch.object(CookieStorage, "__init__", side_effect=AssertionError("a store was made")):
        assert not through(lambda _request: HttpResponse(), "waiting").cookies


def test_the_user_is_read_once_and_only_if_the_view_asks() -> None:
    user = object()
    found: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        found.append(getattr(request, "_cached_user", None))
        assert request.user == user
        assert request.user == user
        found.append(request._cached_user)  # type: ignore[attr-defined]
        return HttpResponse()

    with patch("django.contrib.auth.get_user", return_value=user) as read:
        UserMiddleware(lambda _request: HttpResponse())(RequestFactory().get("/"))
        read.assert_not_called()
        UserMiddleware(view)(RequestFactory().get("/"))
        read.assert_called_once()
    # The log line names the user only if it was read.
    assert found == [None, user]
