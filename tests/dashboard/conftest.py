"""Browsers with a session, and the records that the pages show."""

import re
from collections.abc import Callable

import pytest

from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.conftest import session_take, someone
from tests.dashboard.scene import Scene
from tests.notifications.conftest import hook as hook

# The Accept header of browsers.
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

SignedIn = Callable[[str], Client]


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


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]


@pytest.fixture
def signed_in(server: str) -> SignedIn:
    """Creates a user with a role, and returns a browser in which the user has signed in."""

    def sign_in(role: str) -> Client:
        browser = Client(server)
        browser.session.headers["Accept"] = ACCEPT
        session_take(browser, someone(role))
        return browser

    return sign_in


@pytest.fixture
def operator(signed_in: SignedIn) -> Client:
    return signed_in("operator")


@pytest.fixture
def viewer(signed_in: SignedIn) -> Client:
    return signed_in("viewer")


@pytest.fixture
def outsider(server: str) -> Client:
    """A browser without a session."""
    browser = Client(server)
    browser.session.headers["Accept"] = ACCEPT
    return browser
