"""Coming in with a provider, and seeing where one is signed in, as a person with a browser does."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.accounts.conftest import _provider, provider  # noqa: F401 — fixtures
from tests.accounts.provider import Person, Provider
from tests.browser.conftest import Reader


@pytest.fixture
def visitor(_browser: WebDriver, server: str) -> Iterator[Reader]:
    """A user who is not signed in."""
    _browser.delete_all_cookies()
    visitor = Reader(_browser, server)
    visitor.look()
    yield visitor
    _browser.get("about:blank")


def test_one_comes_in_by_a_provider_and_leaves_everywhere(visitor: Reader, provider: Provider) -> None:  # noqa: F811
    visitor.open("/dashboard/jobs")
    visitor.click("form[action$='google/start'] button")
    visitor.wait_for_text("header", "Ada Lovelace")
    assert visitor.driver.current_url.endswith("/dashboard/jobs")
    assert visitor.complaints() == []
    visitor.click(".account-name")
    visitor.wait_for_text("main", "this device")
    assert "Chrome on Linux" in visitor.text("table")
    visitor.click("form[action$='everywhere'] button")
    visitor.wait_for_text("h1", "Sign in")


def test_a_failure_is_shown_and_can_be_tried_again(visitor: Reader, provider: Provider) -> None:  # noqa: F811
    provider.denies = True
    visitor.open("/signin")
    visitor.click("form[action$='github/start'] button")
    visitor.wait_for_text("h1", "You did not sign in")
    provider.denies = False
    visitor.click("main form button")
    visitor.wait_for_text("header", "Ada Lovelace")


# No size depends on the colours.
@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (1280, False),
        (390, True),
        pytest.param(1280, True, marks=pytest.mark.nightly),
        pytest.param(390, False, marks=pytest.mark.nightly),
    ],
)
def test_the_pages_fit_and_can_be_used(visitor: Reader, provider: Provider, width: int, dark: bool) -> None:  # noqa: F811
    visitor.look(width=width, dark=dark)
    provider.person = Person(email="eve@evil.example")
    visitor.open("/signin")
    _fits(visitor, "signin")
    visitor.click("form[action$='github/start'] button")
    visitor.wait_for_text("h1", "You are not allowed to sign in")
    _fits(visitor, "refused")
    provider.person = Person()
    visitor.click("main form button")
    visitor.wait_for_text("header", "Ada Lovelace")
    visitor.open("/account/devices")
    _fits(visitor, "devices")


def _fits(visitor: Reader, name: str) -> None:
    assert visitor.script("return document.documentElement.scrollWidth <= innerWidth"), name
    buttons = visitor.driver.find_elements(By.CSS_SELECTOR, "main button")
    assert buttons
    assert all(button.size["height"] >= 32 for button in buttons), name
