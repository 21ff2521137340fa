"""People who have signed in with a browser, and what they find in the admin."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import requests

from apps.accounts.selectors import user_by_email
from apps.accounts.services import user_create
from controlplane.lib.actor import SYSTEM
from tests.clients import Client
from tests.conftest import PASSWORD, session_take
from tests.dashboard.scene import Scene
from tests.notifications.conftest import hook as hook

_FORM = re.compile(r'<form[^>]*id="(?:\w+_form|changelist-form)".*?</form>', re.DOTALL)
_INPUT = re.compile(r"<input\b[^>]*>")
_TEXTAREA = re.compile(r'<textarea[^>]*name="(\w+)"[^>]*>\n?(.*?)</textarea>', re.DOTALL)
_SELECT = re.compile(r'<select[^>]*name="(\w+)".*?</select>', re.DOTALL)


def attribute(tag: str, name: str) -> str | None:
    found = re.search(rf'\b{name}="([^"]*)"', tag)
    return unescape(found[1]) if found else None


def form_values(page: str) -> dict[str, str]:
    """What the page's form would send if nothing were changed."""
    found = _FORM.search(page)
    assert found, page
    values: dict[str, str] = {}
    for tag in _INPUT.findall(found[0]):
        name, kind = attribute(tag, "name"), attribute(tag, "type")
        if not name or kind in ("submit", "button") or (kind == "checkbox" and "checked" not in tag):
            continue
        values[name] = attribute(tag, "value") or ("on" if kind == "checkbox" else "")
    for name, text in _TEXTAREA.findall(found[0]):
        values[name] = unescape(text)
    for select in _SELECT.finditer(found[0]):
        chosen = re.search(r'<option value="([^"]*)" selected', select[0])
        values[select[1]] = unescape(chosen[1]) if chosen else ""
    return values


class Browser(Client):
    """Someone at the admin's pages."""

    def page(self, path: str, **arguments: Any) -> str:
        """The page at this path, which must be there."""
        answer = self.get(path, **arguments)
        assert answer.status_code == 200, (answer.status_code, answer.headers.get("Location"), answer.text[:500])
        return answer.text

    def send(self, path: str, **changes: str | None) -> requests.Response:
        """Fill in the form of a page and send it; None leaves a box unticked."""
        values = {**form_values(self.page(path)), **changes}
        return self.post(path, data={name: value for name, value in values.items() if value is not None})

    def act(self, path: str, action: str, *keys: str, confirmed: bool = True) -> requests.Response:
        """Do something to the selected rows of a list."""
        data: dict[str, Any] = {
            "csrfmiddlewaretoken": form_values(self.page(path))["csrfmiddlewaretoken"],
            "action": action,
            "_selected_action": list(keys),
        }
        return self.post(path, data=data | ({"confirmed": "1"} if confirmed else {}))

    def said(self, answer: requests.Response) -> str:
        """The messages at the top of the page that an answer redirects to."""
        assert answer.status_code == 302, answer.text[:2000]
        found = re.search(r'<ul class="messagelist">(.*?)</ul>', self.page(answer.headers["Location"]), re.DOTALL)
        return unescape(re.sub(r"<[^>]+>", " ", found[1])).strip() if found else ""


def rows(page: str) -> list[str]:
    """The lines of a list, as texts."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", line)).split()) for line in lines]


def keys(page: str) -> list[str]:
    """The keys of a list's lines."""
    return re.findall(r'name="_selected_action" value="([^"]+)"', page)


def errors(page: str) -> str:
    """What a form has against what it was given."""
    found = re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', page, re.DOTALL)
    return unescape(" ".join(" ".join(re.sub(r"<[^>]+>", " ", part).split()) for part in found))


SignIn = Callable[..., Browser]


@pytest.fixture
def scene(tables: None) -> Scene:
    return Scene()


@pytest.fixture
def sign_in(server: str) -> SignIn:
    """Makes someone of a role, and a browser in which they have signed in."""

    def made(role: str, email: str | None = None) -> Browser:
        email = email or f"{role}@example.com"
        user = user_by_email(email)
        if user is None:
            user = user_create(email=email, password=PASSWORD, name=role.title(), role=role, actor=SYSTEM)
        browser = Browser(server)
        browser.session.headers["Accept"] = "text/html"
        session_take(browser, user)
        return browser

    return made


@pytest.fixture
def admin(sign_in: SignIn) -> Browser:
    return sign_in("admin")


@pytest.fixture
def operator(sign_in: SignIn) -> Browser:
    return sign_in("operator")


@pytest.fixture
def viewer(sign_in: SignIn) -> Browser:
    return sign_in("viewer")
