"""People, their browsers, and a provider to sign in with."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings

from apps.accounts.models import session_memory
from apps.accounts.services.rate_limits import counter
from controlplane.lib import clock
from tests.accounts.browser import Browser
from tests.accounts.provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider


@pytest.fixture
def browsers(server: str) -> Callable[[], Browser]:
    """As many as a test wants."""
    return lambda: Browser(server)


@pytest.fixture
def browser(server: str) -> Browser:
    return Browser(server)


@pytest.fixture(params=["dynamodb", "memory"])
def store(request: pytest.FixtureRequest, settings: Any) -> str:
    """Each of the two stores of sessions; a test with this runs once for each."""
    settings.SESSION_STORE = request.param
    return str(request.param)


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(_provider: Provider, settings: Any) -> Provider:
    """A provider, under the settings with which people sign in by it as with Google and as with GitHub."""
    url = _provider.url
    _provider.__init__()  # type: ignore[misc]
    _provider.url = url
    settings.GOOGLE_CLIENT_ID = settings.GITHUB_CLIENT_ID = CLIENT_ID
    settings.GOOGLE_CLIENT_SECRET = settings.GITHUB_CLIENT_SECRET = CLIENT_SECRET
    for name in ("GOOGLE_ACCOUNTS_URL", "GOOGLE_TOKEN_URL", "GOOGLE_USERINFO_URL", "GITHUB_URL", "GITHUB_API_URL"):
        setattr(settings, name, url)
    settings.ALLOWED_DOMAINS = {"example.com": "viewer"}
    settings.ALLOWED_GITHUB_ORGS = {}
    settings.ALLOWED_ADDRESSES = {}
    return _provider


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """What the process counts and keeps by itself is of one test."""
    yield
    counter.clear()
    session_memory.clear()


@pytest.fixture
def new_window() -> Iterator[None]:
    """All windows of the rate limits begin now, so none ends while the test counts up to a limit."""
    seconds = django_settings.SIGN_IN_WINDOW_SECONDS
    with clock.shifted(timedelta(seconds=seconds - clock.now().timestamp() % seconds)):
        yield
