"""The cookie by which the rate limits recognise a browser that has signed in with a password before."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import signing

from apps.accounts.models import User
from apps.accounts.services import known_browser_sign, known_browser_verify
from apps.accounts.services.known_browsers import KNOWN_BROWSER_LIFETIME
from controlplane.lib import clock
from tests.accounts.browser import Browser
from tests.accounts.provider import Provider


def test_only_a_successful_sign_in_with_a_password_makes_a_browser_known(
    ada: User, browsers: Callable[[], Browser], provider: Provider, settings: Any
) -> None:
    failed, successful, by_provider = browsers(), browsers(), browsers()
    failed.sign_in(password="wrong")
    header = successful.sign_in().raw.headers.getlist("Set-Cookie")
    by_provider.sign_in_with("google")
    assert "known_browser" not in failed.session.cookies
    assert "known_browser" not in by_provider.session.cookies
    (cookie,) = (line for line in header if line.startswith("known_browser="))
    assert {"HttpOnly", "Max-Age=31536000", "Path=/signin", "SameSite=Lax"} <= set(cookie.split("; "))
    # As a word, since random letters may be these, too.
    assert {"ada", "example"}.isdisjoint(re.split("[^A-Za-z]+", cookie))
    settings.SESSION_COOKIE_SECURE = True
    header = browsers().sign_in().raw.headers.getlist("Set-Cookie")
    assert all("Secure" in line.split("; ") for line in header if line.startswith("known_browser="))


def test_a_browser_is_known_for_its_account(settings: Any) -> None:
    value = known_browser_sign(email="ada@example.com")
    assert known_browser_verify(value=value, email=" ADA@example.com")
    assert known_browser_verify(value=value, email="grace@example.com") is None
    assert known_browser_verify(value=value[:-1], email="ada@example.com") is None
    assert known_browser_verify(value="", email="ada@example.com") is None
    first, second = (known_browser_sign(email="ada@example.com") for _ in range(2))
    assert known_browser_verify(value=first, email="ada@example.com") != known_browser_verify(
        value=second, email="ada@example.com"
    )
    settings.SECRET_KEY = "another-key-" + "x" * 50
    assert known_browser_verify(value=value, email="ada@example.com") is None


def test_a_browser_is_known_for_a_year(monkeypatch: pytest.MonkeyPatch) -> None:
    value = known_browser_sign(email="ada@example.com")
    made_at = clock.now().timestamp()
    assert timedelta(days=365) == KNOWN_BROWSER_LIFETIME
    for seconds, known in ((-60, True), (60, False)):
        later = made_at + KNOWN_BROWSER_LIFETIME.total_seconds() + seconds
        monkeypatch.setattr(time, "time", lambda later=later: later)
        assert (known_browser_verify(value=value, email="ada@example.com") is not None) == known


def test_what_is_signed_for_something_else_makes_no_browser_known() -> None:
    value = known_browser_sign(email="ada@example.com")
    other = signing.dumps(signing.loads(value, salt="accounts.known-browser"), salt="something.else")
    assert known_browser_verify(value=other, email="ada@example.com") is None
