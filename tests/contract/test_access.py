"""Who may ask for what: every route and method with everyone, against the table in access.txt."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings

from apps.accounts.models import User
from apps.accounts.policies import ROLES
from apps.accounts.services import api_token_create, user_create, user_disable
from controlplane.lib.actor import SYSTEM
from controlplane.lib.ids import new_id
from tests.clients import Client
from tests.conftest import PASSWORD, session_take
from tests.contract.test_openapi import routes
from tests.signing import AgentClient, enrolled

TABLE = Path(__file__).with_name("access.txt")
# What the token of the table may do; its owner is an admin.
TOKEN_PERMISSIONS = ("jobs.read", "jobs.cancel", "tokens.manage")
# After these a session is over, so that its person signs in again.
ENDING = re.compile(r"/signout|/auth/logout-everywhere|/account/devices/everywhere")
# Django's admin: one line for each list; tests/admin goes into what can be done there.
ADMIN_AREA = re.compile(r"/admin/(\w+/\w+/)?")
CSRF = "a" * 32


def table() -> dict[str, dict[str, str]]:
    """The lines of access.txt by route, each with what everyone is answered."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    columns = lines[0][2:]
    return {f"{line[0]} {line[1]}": dict(zip(columns, line[2:], strict=True)) for line in lines[1:]}


def filled(path: str, agent_id: str) -> str:
    """A path with values in the places of its parameters; but for the agent, these lead to nothing."""
    one = f"{new_id()}-1-{'0' * 32}"
    values = {
        "agent_id": agent_id,
        "name": "nothing",
        "attempt": "1",
        "sequence": "0",
        "provider": "github",
        "artifact_id": f"{new_id()}-{one}",
        "cache_id": one,
        "number": "0",
    }
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1]) or new_id(), path)


def sender(server: str, token: str | None = None) -> Client:
    """A client whose forms are not refused for want of a CSRF token, so that it reaches the checks behind that."""
    client = Client(server, token)
    client.session.cookies.set(settings.CSRF_COOKIE_NAME, CSRF)
    client.session.headers["X-CSRFToken"] = CSRF
    return client


def without_memory(client: Client) -> Client:
    """The same client on the same connection, without the cookies that earlier answers have set."""
    client.session.cookies.clear()
    client.session.cookies.set(settings.CSRF_COOKIE_NAME, CSRF)
    return client


def session_of(server: str, user: User) -> Client:
    """A browser in which this person has signed in."""
    browser = sender(server)
    session_take(browser, user)
    return browser


def outcome(answer: requests.Response) -> str:
    """In the table's words: yes, 401, 403, or in (sent to the sign-in page)."""
    if answer.status_code >= 500:
        return f"a failure of ours ({answer.status_code})"
    if answer.is_redirect and re.search(r"/(signin|admin/login/)\?next=", answer.headers["Location"]):
        return "in"
    # The sign-in page itself shows 401 beside its form; a refusal challenges.
    if answer.status_code == 401 and "WWW-Authenticate" in answer.headers:
        return "401"
    return "403" if answer.status_code == 403 else "yes"


class Everyone:
    """The people and programs of the table's columns."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.people = {role: self._person(role) for role in ROLES}
        self.disabled = self._person("admin", "gone")
        self.gone = [session_of(server, self.disabled), self._program(self.disabled)]
        user_disable(user_id=self.disabled.user_id, actor=SYSTEM)
        self.token = self._program(self.people["admin"], TOKEN_PERMISSIONS)
        self.agent, self.other_agent = enrolled(server), enrolled(server, name="build-2")
        self.outsider = sender(server)
        self.browsers = {role: session_of(server, user) for role, user in self.people.items()}

    def _person(self, role: str, name: str | None = None) -> User:
        email = f"{name or role}@example.com"
        return user_create(email=email, password=PASSWORD, name=name or role, role=role, actor=SYSTEM)

    def _program(self, owner: User, permissions: tuple[str, ...] | None = None) -> Client:
        _, secret = api_token_create(user=owner, name="tests", permissions=permissions, actor=SYSTEM)
        return sender(self.server, secret)

    def ask(self, column: str, method: str, path: str) -> set[str]:
        """What the column is answered, in the table's words; in each of the ways in which it can ask."""
        path = filled(path, self.agent.agent_id)
        if column == "agent":
            return {self._ask_as_agent(method, path)}
        if column in self.browsers:
            clients = [self.browsers[column]]
        else:
            clients = {"token": [self.token], "outsider": [without_memory(self.outsider)], "disabled": self.gone}[
                column
            ]
        outcomes = {outcome(client.request(method, path, json=_body(method))) for client in clients}
        if column in self.browsers and ENDING.fullmatch(path):
            self._sign_in_again(column)
        return outcomes

    def _sign_in_again(self, role: str) -> None:
        self.people[role].refresh(consistent_read=True)
        self.browsers[role] = session_of(self.server, self.people[role])

    def _ask_as_agent(self, method: str, path: str) -> str:
        own = outcome(self._signed(self.agent, method, path))
        return "own" if own == "yes" and outcome(self._signed(self.other_agent, method, path)) == "403" else own

    def _signed(self, agent: AgentClient, method: str, path: str) -> requests.Response:
        signed = agent.signed(path, json.dumps(_body(method)).encode() if _body(method) else b"", method=method)
        headers = {"Content-Type": "application/json", **signed.headers}
        return without_memory(self.outsider).request(method, path, data=signed.body, headers=headers)


def _body(method: str) -> Any:
    """A body that no endpoint accepts: a caller without the right gets 403, not an error about the body."""
    return None if method == "GET" else {"nothing": "known"}


def served(admin: Client) -> Iterator[str]:
    """Every route and method that there is, as the URL configuration and the views themselves say."""
    for path in dict.fromkeys(routes()):
        if path.startswith("/admin/") or path == "/admin":
            if ADMIN_AREA.fullmatch(path):
                yield f"GET {path}"
            continue
        answer = admin.request("PROPFIND", filled(path, new_id()))
        assert answer.status_code == 405, f"{path}: {answer.status_code}"
        for method in sorted(set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"}):
            yield f"{method} {path}"


@pytest.fixture
def everyone(server: str) -> Everyone:
    return Everyone(server)


def test_every_route_is_in_the_table_and_the_table_names_no_other(everyone: Everyone) -> None:
    there = set(served(everyone.browsers["admin"]))
    assert there - set(table()) == set(), "add who may ask for these to access.txt"
    assert set(table()) - there == set(), "these are gone"


@pytest.mark.slow
def test_everyone_is_answered_as_the_table_says(everyone: Everyone) -> None:
    wrong = {}
    for route, columns in table().items():
        method, path = route.split(" ")
        for column, expected in columns.items():
            answered = everyone.ask(column, method, path)
            if answered != {expected}:
                wrong[f"{route} as {column}"] = f"{' and '.join(sorted(answered))}, not {expected}"
    assert wrong == {}


def test_a_role_that_this_release_does_not_know_allows_nothing(everyone: Everyone) -> None:
    user = everyone.people["viewer"]
    user.update(actions=[User.role.set("emperor")])
    assert everyone.browsers["viewer"].get("/jobs").status_code == 403
    assert everyone.browsers["viewer"].get("/dashboard/").status_code == 403


def test_a_session_without_its_csrf_token_changes_nothing(everyone: Everyone) -> None:
    browser = everyone.browsers["admin"]
    del browser.session.headers["X-CSRFToken"]
    for route, columns in table().items():
        method, path = route.split(" ")
        if method != "GET" and columns["outsider"] in {"401", "in"} and columns["agent"] != "own":
            answer = browser.request(method, filled(path, new_id()), json=_body(method))
            assert answer.status_code == 403, route
