"""The link of an invitation, and connecting another account, as a person with a browser does it."""

from selenium.webdriver.common.by import By

from apps.accounts.services import invitation_create
from controlplane.lib.actor import SYSTEM
from tests.accounts.conftest import _provider, provider  # noqa: F401 — fixtures
from tests.accounts.provider import Person, Provider
from tests.browser.conftest import Reader
from tests.browser.test_sign_in import _fits, visitor  # noqa: F401 — a fixture


def test_a_link_leads_to_an_account_and_its_code_stays_in_no_address(visitor: Reader, provider: Provider) -> None:  # noqa: F811
    provider.person = Person(subject="77", email="eve@private.example", name="Eve")
    _, token = invitation_create(email="eve@example.com", role="operator", actor=SYSTEM)
    visitor.look(width=390, dark=True)
    visitor.open(f"/invitation#{token}")
    visitor.wait(lambda: visitor.driver.find_element(By.NAME, "code").get_attribute("value") == token)
    assert visitor.driver.current_url == f"{visitor.server}/invitation"
    _fits(visitor, "invitation")
    visitor.click("main form button")
    visitor.wait_for_text("main", "eve@example.com with the role operator")
    assert token not in visitor.driver.page_source
    _fits(visitor, "accept")
    visitor.click("form[action$='github/start'] button")
    visitor.wait_for_text("header", "Eve")
    # She connects a second account, and goes back to the page that began it.
    visitor.open("/account/identities")
    _fits(visitor, "identities")
    visitor.click("form[action$='google/start'] button")
    visitor.wait_for_text("main", "Your Google account is connected.")
    assert visitor.driver.current_url == f"{visitor.server}/account/identities"
    visitor.click("form[action$='disconnect'] button")
    visitor.wait_for_text("main", "This account is disconnected.")
    _fits(visitor, "disconnected")
    assert visitor.complaints() == []
