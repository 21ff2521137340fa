"""A gateway's own address begins with the stage: no page may lead out of it."""

import re
from collections import deque
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from django.conf import settings

from apps.accounts.services.sessions import session_start
from controlplane.lambda_entry import handler as handle
from tests.conftest import someone
from tests.dashboard.scene import Scene
from tests.zappa.events import answer_body, http_api_event

STAGE = "/staging"
FIRST = (
    "/",
    "/dashboard",
    "/dashboard/",
    "/dashboard/runs/",
    "/dashboard/new-connection",
    "/docs/",
    "/admin/",
    "/guide",
    "/docs",
    "/signin",
    "/account/devices",
)
# What only looks like an address, and what is sent by a click alone.
NO_ADDRESS = frozenset({"value", "placeholder", "pattern", "d"})
ONLY_SENT = frozenset({"action", "formaction", "hx-post"})
# Identifiers and cursors: of pages that differ by these alone, one is looked at.
VARIES = re.compile(r"[0-9a-z]{26}|\?.*|\d{4}-\d{2}-\d{2}")
MOST = 200


class Attributes(HTMLParser):
    """All attributes of a page that are addresses: each that begins with a slash, and each link."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name not in NO_ADDRESS and (value.startswith("/") or name in ("href", "src", "action")):
                self.found.append((name, value))


@pytest.fixture
def cookie(tables: None) -> str:
    """Of an admin, for a product in which something has happened."""
    scene = Scene()
    scene.pipeline()
    agent = scene.agent()
    scene.job()
    scene.finish(agent, scene.start(agent), exit_code=1)
    scene.job()
    started = session_start(user=someone("admin"), provider="password", device="tests", address="127.0.0.1")
    return f"{settings.SESSION_COOKIE_NAME}={started.token}"


def _leads_to(path: str, cookie: str) -> Iterator[tuple[str, str]]:
    """The addresses in the answer to a request for the path below the stage, each with its attribute."""
    where, _, query = path.partition("?")
    event = http_api_event(
        "GET", where, query=query, headers={"accept": "text/html"}, stage="staging", cookies=[cookie]
    )
    answer = handle(event, None)
    assert answer["statusCode"] in (200, 302), (path, answer["statusCode"])
    if answer["statusCode"] == 302:
        yield "location", answer["headers"]["location"]
    elif answer["headers"]["content-type"].startswith("text/html"):
        yield from Attributes(answer_body(answer).decode()).found


def test_no_page_leads_out_of_the_stage(cookie: str) -> None:
    waiting = deque(FIRST)
    seen = {VARIES.sub("", path) for path in FIRST}
    outside = set()
    for _ in range(MOST):
        if not waiting:
            break
        path = waiting.popleft()
        for attribute, address in _leads_to(path, cookie):
            parts = urlsplit(urljoin(f"https://testserver{STAGE}{path}", address))
            if parts.hostname != "testserver":
                continue
            if not parts.path.startswith(f"{STAGE}/"):
                outside.add((path, attribute, address))
            elif attribute not in ONLY_SENT:
                found = parts.path.removeprefix(STAGE) + (f"?{parts.query}" if parts.query else "")
                if VARIES.sub("", found) not in seen:
                    seen.add(VARIES.sub("", found))
                    waiting.append(found)
    assert (outside, list(waiting)) == (set(), [])
    assert len(seen) > 60
