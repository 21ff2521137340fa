"""A real browser, and a user who has signed in with it."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from apps.accounts.services import user_create
from controlplane.lib.actor import SYSTEM, Actor
from tests.clients import Client
from tests.conftest import PASSWORD, session_take
from tests.dashboard.scene import Scene

# What a browser does of its own accord must not reach out of this machine.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
)


def _installed(*names: str) -> str:
    """The path of the first of these programs; on CI it must be there."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"{names[0]} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = _installed("chromium", "chromium-browser", "google-chrome")
    profile: Path = tmp_path_factory.mktemp("browser")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_installed("chromedriver")))
    yield driver
    driver.quit()


class Reader:
    """A user's browser. Waits are as long as a page may take to notice, and end as soon as it has."""

    def __init__(self, driver: WebDriver, server: str) -> None:
        self.driver = driver
        self.server = server

    def open(self, path: str) -> None:
        self.driver.get(self.server + path)

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def press(self, keys: str) -> None:
        """Type, wherever the focus is: the element that has it may be replaced at any moment by one that is alike."""
        ActionChains(self.driver).send_keys(keys).perform()

    def script(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], object], seconds: float = 15) -> None:
        WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: condition())

    def wait_for_text(self, selector: str, text: str, seconds: float = 15) -> None:
        self.wait(lambda: text in self.text(selector), seconds)

    def look(self, *, width: int = 1280, dark: bool = False) -> None:
        """Look through a window of this width, in this scheme of colours."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.command("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", {"features": [scheme]})

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        self.driver.execute_cdp_cmd(name, arguments)

    def violations(self, *, context: dict[str, Any] | None = None, rule: str | None = None) -> list[tuple[str, str]]:
        """The rule and the element of what axe finds in the page, or in its `context`: by all rules, or by one."""
        # A page that has axe already, since it was checked in another window, does not need it again.
        axe = Axe(axe_script="") if self.script("return 'axe' in window") else Axe()
        only = {"runOnly": {"type": "rule", "values": [rule]}} if rule else {}
        found = axe.run(self.driver, context=context, options={"resultTypes": ["violations"], **only})["violations"]
        return [(each["id"], node["html"]) for each in found for node in each["nodes"]]

    def complaints(self) -> list[str]:
        """What the browser wrote to its console since this was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[attr-defined]


@pytest.fixture
def scene(tables: None) -> Scene:
    return Scene()


@pytest.fixture
def agent(scene: Scene) -> Actor:
    return scene.agent()


@pytest.fixture
def running_job(scene: Scene, agent: Actor) -> str:
    """A job whose first attempt the agent has started."""
    scene.pipeline()
    scene.job()
    return scene.start(agent)


@pytest.fixture
def reader(_browser: WebDriver, server: str) -> Iterator[Reader]:
    """An operator who has signed in. A test fails when the browser had anything to complain of."""
    olga = user_create(email="olga@example.com", password=PASSWORD, name="Olga", role="operator", actor=SYSTEM)
    signed_in = Client(server)
    session_take(signed_in, olga)
    reader = Reader(_browser, server)
    reader.look()
    reader.command("Network.clearBrowserCookies", {})
    for name, value in signed_in.session.cookies.items():
        reader.command("Network.setCookie", {"name": name, "value": value, "url": server})
    reader.complaints()
    yield reader
    assert reader.complaints() == []
    # Leave the page, so that it asks for nothing in the next test.
    _browser.get("about:blank")
