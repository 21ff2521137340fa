"""``/tokens`` and the page ``/account/tokens``: people keep the tokens of their programs."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.models import ApiToken, User
from apps.accounts.services import api_token_create, session_start, user_create, user_disable
from apps.accounts.services.api_tokens import MAX_TOKENS
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.ids import new_id
from tests.clients import Client, problem
from tests.conftest import PASSWORD

Person = Callable[[str], tuple[User, Client]]


@pytest.fixture
def person(server: str) -> Person:
    """Makes someone of a role, with a program that may do all that they may."""

    def make(role: str) -> tuple[User, Client]:
        user = user_create(
            email=f"{role}-{new_id()}@example.com", password=PASSWORD, name=role, role=role, actor=SYSTEM
        )
        return user, Client(server, api_token_create(user=user, name="tests", actor=SYSTEM)[1])

    return make


def make(client: Client, **members: Any) -> dict[str, Any]:
    answer = client.post("/tokens", json={"name": "ci", **members})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def rfc3339(**ahead: int) -> str:
    return clock.timestamp(clock.now() + timedelta(**ahead))


def acts() -> list[tuple[str, str, str]]:
    records = audit_list(day=clock.timestamp(clock.now())[:10]).records
    return [(record.actor_kind, record.action, record.target) for record in records]


def test_a_token_is_shown_once_and_works(person: Person, server: str) -> None:
    user, client = person("operator")
    expires = rfc3339(days=1)
    answer = client.post("/tokens", json={"name": "ci", "permissions": ["jobs.read"], "expires_at": expires})
    made = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"hcp_[A-Za-z0-9_-]{70}", made["token"])
    assert (made["user_id"], made["name"], made["permissions"]) == (user.user_id, "ci", ["jobs.read"])
    assert (made["last_used_at"], made["expires_at"][:19]) == (None, expires[:19])
    program = Client(server, made["token"])
    assert program.get("/jobs").status_code == 200
    problem(program.get("/agents"), 403, "forbidden")
    listed = client.get("/tokens").json()
    assert (listed["total"], listed["next_cursor"]) == (2, None)
    entry = listed["tokens"][0]
    assert (entry["token_id"], entry["name"]) == (made["token_id"], "ci")
    assert entry["last_used_at"] is not None
    assert "token" not in entry
    assert made["token"] not in str(listed)


def test_what_is_stored_does_not_open_anything(person: Person) -> None:
    _, client = person("operator")
    made = make(client)
    assert made["token"] not in str([token.to_simple_dict() for token in ApiToken.scan()])
    # The public id is neither the key of the record nor a part of it.
    assert all(made["token_id"] not in token.token_hash for token in ApiToken.scan())


def test_each_act_is_recorded_with_who_did_it(person: Person) -> None:
    _, client = person("viewer")
    made = make(client)
    client.delete(f"/tokens/{made['token_id']}")
    target = f"api_token:{made['token_id']}"
    assert acts()[:2] == [("token", "api_token.revoked", target), ("token", "api_token.created", target)]


def test_a_revoked_token_is_out_and_revoking_it_again_finds_nothing(person: Person, server: str) -> None:
    _, client = person("viewer")
    made = make(client)
    program = Client(server, made["token"])
    assert program.get("/jobs").status_code == 200
    assert client.delete(f"/tokens/{made['token_id']}").status_code == 204
    problem(program.get("/jobs"), 401, "token_invalid")
    problem(client.delete(f"/tokens/{made['token_id']}"), 404, "api_token_not_found")


def test_a_token_may_revoke_itself(person: Person) -> None:
    _, client = person("viewer")
    (own,) = client.get("/tokens").json()["tokens"]
    assert client.delete(f"/tokens/{own['token_id']}").status_code == 204
    problem(client.get("/tokens"), 401, "token_invalid")


@pytest.mark.parametrize("role", ["viewer", "operator", "auditor"])
def test_only_users_who_manage_accounts_change_the_tokens_of_others(person: Person, role: str) -> None:
    _, client = person(role)
    other, others = person("operator")
    (token,) = others.get("/tokens").json()["tokens"]
    problem(client.get("/tokens", params={"user_id": other.user_id}), 403, "forbidden")
    problem(client.post("/tokens", json={"name": "ci", "user_id": other.user_id}), 403, "forbidden")
    problem(client.delete(f"/tokens/{token['token_id']}"), 403, "forbidden")
    assert others.get("/tokens").json()["total"] == 1


def test_an_admin_manages_the_tokens_of_all_users(person: Person, server: str) -> None:
    _, admin = person("admin")
    other, _ = person("operator")
    made = make(admin, user_id=other.user_id)
    assert made["user_id"] == other.user_id
    assert admin.get("/tokens", params={"user_id": other.user_id}).json()["total"] == 2
    assert Client(server, made["token"]).get("/tokens").json()["tokens"][0]["user_id"] == other.user_id
    assert admin.delete(f"/tokens/{made['token_id']}").status_code == 204


def test_an_admins_token_for_another_has_no_more_than_its_owner(person: Person) -> None:
    _, admin = person("admin")
    other, _ = person("viewer")
    refused = admin.post("/tokens", json={"name": "ci", "user_id": other.user_id, "permissions": ["jobs.create"]})
    assert problem(refused, 400, "invalid_input")["errors"][0]["field"] == "permissions"


def test_there_is_no_token_for_a_user_who_does_not_exist_or_is_disabled(person: Person) -> None:
    _, admin = person("admin")
    other, _ = person("viewer")
    user_disable(user_id=other.user_id, actor=SYSTEM)
    problem(admin.post("/tokens", json={"name": "ci", "user_id": other.user_id}), 409, "account_disabled")
    unknown = admin.post("/tokens", json={"name": "ci", "user_id": new_id()})
    assert problem(unknown, 400, "invalid_input")["errors"][0]["field"] == "user_id"


def test_a_token_makes_tokens_only_if_it_was_given_that(person: Person, server: str) -> None:
    _, client = person("operator")
    program = Client(server, make(client, permissions=["jobs.read"])["token"])
    problem(program.get("/tokens"), 403, "forbidden")
    problem(program.post("/tokens", json={"name": "more"}), 403, "forbidden")
    problem(program.delete(f"/tokens/{new_id()}"), 403, "forbidden")


def test_a_token_gives_on_no_more_than_it_may_itself(person: Person, server: str) -> None:
    _, client = person("operator")
    program = Client(server, make(client, permissions=["jobs.read", "tokens.manage"])["token"])
    refused = program.post("/tokens", json={"name": "more", "permissions": ["jobs.create"]})
    assert problem(refused, 400, "invalid_input")["errors"][0]["field"] == "permissions"
    assert make(program, permissions=["jobs.read"])["permissions"] == ["jobs.read"]
    # Whatever the role allows would be more than the maker has.
    assert make(program)["permissions"] == ["jobs.read", "tokens.manage"]


def test_a_token_that_manages_accounts_gives_an_admin_no_more_than_it_has(person: Person, server: str) -> None:
    admin, client = person("admin")
    other, _ = person("admin")
    program = Client(server, make(client, permissions=["tokens.manage", "accounts.manage"])["token"])
    assert make(program, user_id=other.user_id)["permissions"] == ["accounts.manage", "tokens.manage"]
    refused = program.post("/tokens", json={"name": "x", "user_id": other.user_id, "permissions": ["jobs.create"]})
    assert problem(refused, 400, "invalid_input")["errors"][0]["field"] == "permissions"
    assert admin.user_id != other.user_id


def test_a_token_gives_on_no_more_time_than_it_has(person: Person, server: str) -> None:
    _, client = person("operator")
    maker = make(client, expires_at=rfc3339(days=1))
    program = Client(server, maker["token"])
    refused = program.post("/tokens", json={"name": "longer", "expires_at": rfc3339(days=2)})
    assert problem(refused, 400, "invalid_input")["errors"][0]["field"] == "expires_at"
    assert make(program, expires_at=None)["expires_at"] == maker["expires_at"]
    assert make(program, expires_at=rfc3339(hours=1))["expires_at"] < maker["expires_at"]


def test_a_token_for_all_that_the_role_allows_follows_the_role_both_ways(person: Person, server: str) -> None:
    user, client = person("viewer")
    session = session_start(user=user, provider="password", device=None, address="192.0.2.7")
    answer = Client(server, session.token).post("/tokens", json={"name": "ci"})
    assert answer.json()["permissions"] is None
    program = Client(server, answer.json()["token"])
    problem(program.post("/jobs", json={}), 403, "forbidden")
    user.update(actions=[User.role.set("operator")])
    problem(program.post("/jobs", json={}), 404, "pipeline_not_found")
    user.update(actions=[User.role.set("viewer")])
    problem(program.post("/jobs", json={}), 403, "forbidden")
    assert client.get("/tokens").status_code == 200


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "ci", "permissions": ["no.such"]}, "permissions[0]"),
        ({"name": "ci", "permissions": "jobs.read"}, "permissions"),
        ({"name": "ci", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "ci", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "ci", "expires_at": 5}, "expires_at"),
        ({"name": "ci", "expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
        ({"name": "ci", "user_id": "../etc"}, "user_id"),
        ({"name": "ci", "scope": "all"}, "scope"),
    ],
)
def test_what_cannot_be_is_refused_with_the_fields_name(person: Person, members: dict[str, Any], field: str) -> None:
    _, client = person("operator")
    assert problem(client.post("/tokens", json=members), 400, "invalid_input")["errors"][0]["field"] == field
    assert client.get("/tokens").json()["total"] == 1


@pytest.mark.slow
def test_the_number_of_tokens_of_a_user_is_limited(person: Person) -> None:
    user, client = person("viewer")
    for number in range(MAX_TOKENS - 1):
        api_token_create(user=user, name=str(number), actor=SYSTEM)
    problem(client.post("/tokens", json={"name": "ci"}), 409, "too_many_tokens")
    assert client.get("/tokens").json()["total"] == MAX_TOKENS


# The page


def browser_of(server: str, user: User) -> Client:
    browser = Client(server)
    session = session_start(user=user, provider="password", device=None, address="192.0.2.7")
    browser.session.cookies.set("sessionid", session.token)
    browser.session.headers["Accept"] = "text/html"
    return browser


def csrf(browser: Client) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get("/account/tokens").text)
    assert found
    return found[1]


def send(browser: Client, **form: Any) -> Any:
    return browser.post("/account/tokens", data={"csrfmiddlewaretoken": csrf(browser), **form})


def test_the_page_shows_a_new_token_once_and_keeps_it_from_caches(person: Person, server: str) -> None:
    user, _ = person("operator")
    browser = browser_of(server, user)
    answer = send(browser, name="<b>ci</b>", days="30", scope="chosen", chosen=["jobs.read", "jobs.cancel"])
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    (secret,) = re.findall(r"hcp_[A-Za-z0-9_-]{70}", answer.text)
    assert "&lt;b&gt;ci&lt;/b&gt;" in answer.text
    assert "<b>ci" not in answer.text
    assert Client(server, secret).get("/jobs").status_code == 200
    assert secret not in browser.get("/account/tokens").text
    token = next(token for token in ApiToken.scan() if token.name != "tests")
    assert sorted(token.permissions) == ["jobs.cancel", "jobs.read"]
    assert 29 <= (token.expires_at - clock.now()).days <= 30


def test_the_page_makes_a_token_for_all_that_the_role_allows_for_ever(person: Person, server: str) -> None:
    user, _ = person("operator")
    assert send(browser_of(server, user), name="all", days="", scope="all").status_code == 200
    token = next(token for token in ApiToken.scan() if token.name == "all")
    assert (token.permissions, token.expires_at) == (None, None)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"name": "", "days": "7", "scope": "all"}, "This field is required"),
        ({"name": "ci", "days": "7", "scope": "chosen"}, "Choose at least one"),
        ({"name": "ci", "days": "8", "scope": "all"}, "Select a valid choice"),
        ({"name": "ci", "days": "7", "scope": "chosen", "chosen": ["accounts.manage"]}, "Select a valid choice"),
        ({"name": "a\tb", "days": "7", "scope": "all"}, "printable characters"),
    ],
)
def test_the_page_keeps_what_was_filled_in_and_says_what_is_wrong(
    person: Person, server: str, form: dict[str, Any], message: str
) -> None:
    user, _ = person("operator")
    answer = send(browser_of(server, user), **form)
    assert answer.status_code == 422
    assert message in answer.text
    assert "hcp_" not in answer.text.replace("hcp_…", "")
    assert len(list(ApiToken.scan())) == 1


def test_the_page_offers_no_permission_that_its_reader_lacks(person: Person, server: str) -> None:
    user, _ = person("viewer")
    page = browser_of(server, user).get("/account/tokens").text
    offered = set(re.findall(r'name="chosen" value="([\w.]+)"', page))
    assert offered == {"jobs.read", "pipelines.read", "agents.read", "deployments.approve", "tokens.manage"}


def test_the_page_revokes_a_users_own_token_and_no_other(person: Person, server: str) -> None:
    user, client = person("viewer")
    _, others = person("viewer")
    browser = browser_of(server, user)
    (own,) = client.get("/tokens").json()["tokens"]
    (other,) = others.get("/tokens").json()["tokens"]
    form = {"csrfmiddlewaretoken": csrf(browser)}
    assert browser.post(f"/account/tokens/{other['token_id']}/revoke", data=form).status_code == 403
    answer = browser.post(f"/account/tokens/{own['token_id']}/revoke", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/tokens")
    assert "is revoked" in browser.get("/account/tokens").text
    again = browser.post(f"/account/tokens/{own['token_id']}/revoke", data=form)
    assert again.status_code == 302
    problem(client.get("/tokens"), 401, "token_invalid")
    assert others.get("/tokens").status_code == 200
