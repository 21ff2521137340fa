"""How people sign in by a provider: the first time, again, with a second identity, and never with none."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from django.contrib.auth.hashers import make_password

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import Identity, User
from apps.accounts.selectors import identities_of_user, user_get
from apps.accounts.services import (
    identity_link,
    identity_sign_in,
    identity_unlink,
    invitation_accept,
    invitation_create,
    session_start,
    session_verify,
    sessions_end,
    user_create,
    user_disable,
)
from apps.accounts.services.identities import MAX_IDENTITIES
from apps.audit.models import AuditRecord
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import ApplicationError
from tests.accounts.browser import Browser
from tests.accounts.provider import Person, Provider
from tests.conftest import ADMIN, PASSWORD

pytestmark = pytest.mark.usefixtures("tables")

GOOGLE = ProviderIdentity("google", "2002", "eve@example.com", "Eve")
GITHUB = ProviderIdentity("github", "77", "eve@private.example", "eve")


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ALLOWED_ADDRESSES, settings.ALLOWED_DOMAINS, settings.ALLOWED_GITHUB_ORGS = {}, {}, {}
    settings.GOOGLE_CLIENT_ID = settings.GOOGLE_CLIENT_SECRET = "google"
    settings.GITHUB_CLIENT_ID = settings.GITHUB_CLIENT_SECRET = "github"
    settings.PASSWORD_SIGN_IN = False


@pytest.fixture
def eve(tables: None) -> User:
    """She was invited and signs in with Google."""
    invitation, _ = invitation_create(email="eve@example.com", role="viewer", actor=SYSTEM)
    return invitation_accept(invitation=invitation, identity=GOOGLE)


def acting(user: User) -> Actor:
    return Actor("user", user.user_id, user.name)


def stored(user: User) -> User:
    found = user_get(user.user_id)
    assert found is not None
    return found


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(ApplicationError) as refusal:
        act()
    return refusal.value.code


def trail(action: str) -> list[AuditRecord]:
    return list(AuditRecord.scan(AuditRecord.action == action))


# --- linking --------------------------------------------------------------------------------------------------------


def test_people_can_link_a_second_identity_and_sign_in_with_either(eve: User) -> None:
    session = session_start(user=eve, provider="google", device=None, address="")
    identity_link(actor=acting(eve), identity=GITHUB)
    assert identity_sign_in(GITHUB).user_id == identity_sign_in(GOOGLE).user_id == eve.user_id
    assert stored(eve).identities == {"google#2002", "github#77"}
    assert [(row.provider, row.email) for row in identities_of_user(stored(eve))] == [
        ("google", "eve@example.com"),
        ("github", "eve@private.example"),
    ]
    (linked,) = trail("identity.linked")
    assert linked.target == f"user:{eve.user_id}"
    assert linked.detail == {"provider": "github", "subject": "77", "email": "eve@private.example"}
    assert session_verify(session.token, use=False)


def test_linking_an_identity_again_changes_nothing(eve: User) -> None:
    identity_link(actor=acting(eve), identity=GOOGLE)
    assert trail("identity.linked") == []
    assert stored(eve).identities == {"google#2002"}


def test_an_identity_of_another_user_is_not_linked(eve: User) -> None:
    other = user_create(email="ada@example.com", password=PASSWORD, name="Ada", role="viewer", actor=SYSTEM)
    assert code_of(lambda: identity_link(actor=acting(other), identity=GOOGLE)) == "identity_taken"
    assert stored(other).identities is None
    assert identity_sign_in(GOOGLE).user_id == eve.user_id


def test_of_eight_users_who_link_one_identity_at_once_one_wins() -> None:
    people = [
        user_create(email=f"u{number}@example.com", password=PASSWORD, name="U", role="viewer", actor=SYSTEM)
        for number in range(8)
    ]

    def link(user: User) -> str:
        try:
            identity_link(actor=acting(user), identity=GITHUB)
        except ApplicationError as error:
            return error.code
        return user.user_id

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(link, people))
    assert results.count("identity_taken") == 7
    (row,) = Identity.scan()
    assert row.user_id in results
    assert [user.user_id for user in User.scan() if user.identities] == [row.user_id]


def test_a_user_of_the_settings_links_only_what_the_settings_allow(settings: Any) -> None:
    """Otherwise someone who has left the organisation could still sign in, with the other identity."""
    settings.ALLOWED_ADDRESSES = own = {"eve@example.com": "viewer"}
    user = identity_sign_in(GOOGLE)
    assert code_of(lambda: identity_link(actor=acting(user), identity=GITHUB)) == "not_allowed"
    settings.ALLOWED_ADDRESSES = {**own, "eve@private.example": "viewer"}
    identity_link(actor=acting(user), identity=GITHUB)
    settings.ALLOWED_ADDRESSES = own
    assert code_of(lambda: identity_sign_in(GITHUB)) == "not_allowed"
    assert identity_sign_in(GOOGLE).user_id == user.user_id


@pytest.mark.parametrize("kind", ["token", "agent", "system"])
def test_only_a_user_changes_how_they_sign_in(kind: Any, eve: User) -> None:
    actor = Actor(kind, eve.user_id, "x", owner_id=eve.user_id)
    assert code_of(lambda: identity_link(actor=actor, identity=GITHUB)) == "forbidden"
    assert code_of(lambda: identity_unlink(actor=actor, key="google#2002")) == "forbidden"


def test_a_disabled_user_links_nothing(eve: User) -> None:
    user_disable(user_id=eve.user_id, actor=ADMIN)
    assert code_of(lambda: identity_link(actor=acting(eve), identity=GITHUB)) == "account_disabled"
    assert len(list(Identity.scan())) == 1


def test_a_user_has_ten_identities_at_most(eve: User) -> None:
    for number in range(MAX_IDENTITIES - 1):
        identity_link(actor=acting(eve), identity=ProviderIdentity("github", str(number), None, ""))
    one_more = ProviderIdentity("github", "99", None, "")
    assert code_of(lambda: identity_link(actor=acting(eve), identity=one_more)) == "too_many_identities"
    assert len(list(Identity.scan())) == len(stored(eve).identities or ()) == MAX_IDENTITIES


# --- unlinking ------------------------------------------------------------------------------------------------------


def test_an_identity_that_is_disconnected_signs_no_user_in(eve: User) -> None:
    identity_link(actor=acting(eve), identity=GITHUB)
    session = session_start(user=eve, provider="google", device=None, address="")
    identity_unlink(actor=acting(eve), key="google#2002")
    assert code_of(lambda: identity_sign_in(GOOGLE)) == "not_allowed"
    assert identity_sign_in(GITHUB).user_id == eve.user_id
    (unlinked,) = trail("identity.unlinked")
    assert unlinked.detail == {"provider": "google", "subject": "2002"}
    assert session_verify(session.token, use=False)
    assert code_of(lambda: identity_unlink(actor=acting(eve), key="google#2002")) == "identity_not_found"


def test_the_last_way_in_is_never_disconnected(eve: User, settings: Any) -> None:
    assert code_of(lambda: identity_unlink(actor=acting(eve), key="google#2002")) == "last_way_in"
    identity_link(actor=acting(eve), identity=GITHUB)
    # The control plane has no credentials for the other one any more.
    settings.GITHUB_CLIENT_ID = ""
    assert code_of(lambda: identity_unlink(actor=acting(eve), key="google#2002")) == "last_way_in"
    assert stored(eve).identities == {"google#2002", "github#77"}


@pytest.mark.parametrize(("is_on", "usable"), [(True, True), (True, False), (False, True)])
def test_a_password_is_a_way_in_where_passwords_are_allowed(
    eve: User, settings: Any, is_on: bool, usable: bool
) -> None:
    settings.PASSWORD_SIGN_IN = is_on
    eve.update(actions=[User.password.set(make_password(PASSWORD if usable else None))])
    if is_on and usable:
        identity_unlink(actor=acting(eve), key="google#2002")
        assert stored(eve).identities is None
    else:
        assert code_of(lambda: identity_unlink(actor=acting(eve), key="google#2002")) == "last_way_in"


@pytest.mark.parametrize("first", ["google#2002", "github#77"])
def test_of_two_who_disconnect_the_last_two_at_once_one_is_refused_in_either_order(
    eve: User, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.accounts.services import identities

    identity_link(actor=acting(eve), identity=GITHUB)
    second = next(key for key in stored(eve).identities or () if key != first)
    done: list[str] = []

    def read(user_id: str) -> User | None:
        found = user_get(user_id)
        if not done:
            done.append(first)
            identity_unlink(actor=acting(eve), key=first)
        return found

    monkeypatch.setattr(identities, "user_get", read)
    assert code_of(lambda: identity_unlink(actor=acting(eve), key=second)) == "last_way_in"
    assert stored(eve).identities == {second}
    assert [row.identity for row in Identity.scan()] == [second]


def test_another_users_identity_is_not_disconnected(eve: User) -> None:
    other = user_create(email="ada@example.com", password=PASSWORD, name="Ada", role="admin", actor=SYSTEM)
    assert code_of(lambda: identity_unlink(actor=acting(other), key="google#2002")) == "identity_not_found"
    assert identity_sign_in(GOOGLE).user_id == eve.user_id


# --- older users ----------------------------------------------------------------------------------------------------


def test_an_older_user_signs_in_and_the_identity_is_listed_then(eve: User) -> None:
    """Rows of before list no identities, and are not marked as invited."""
    eve.update(actions=[User.identities.remove(), User.invited.remove()])
    assert code_of(lambda: identity_sign_in(GOOGLE)) == "not_allowed"
    eve.update(actions=[User.invited.set(True)])
    assert identity_sign_in(GOOGLE).user_id == eve.user_id
    assert stored(eve).identities == {"google#2002"}


def test_an_older_user_who_links_first_keeps_both(eve: User) -> None:
    eve.update(actions=[User.identities.remove()])
    identity_link(actor=acting(eve), identity=GITHUB)
    assert code_of(lambda: identity_unlink(actor=acting(eve), key="github#77")) == "last_way_in"
    identity_sign_in(GOOGLE)
    assert stored(eve).identities == {"google#2002", "github#77"}


# --- the pages ------------------------------------------------------------------------------------------------------


PAGE = "/account/identities"


@pytest.fixture
def ada_in(browser: Browser, provider: Provider) -> Browser:
    """Ada has signed in with Google, which the settings allow for her domain."""
    assert browser.sign_in_with("google").status_code == 302
    return browser


def connect(browser: Browser, name: str) -> requests.Response:
    form = {"csrfmiddlewaretoken": browser.csrf_token(PAGE), "purpose": "link", "choose": "account"}
    answer = browser.post(f"/oauth/{name}/start", data=form)
    assert answer.status_code == 302, answer.text
    return browser.get(browser.agree(answer.headers["Location"]))


def test_a_person_connects_another_account_and_disconnects_the_first(ada_in: Browser) -> None:
    cookie = ada_in.cookie
    answer = connect(ada_in, "github")
    assert (answer.status_code, answer.headers["Location"]) == (302, PAGE)
    page = ada_in.get(PAGE).text
    assert "Your GitHub account is connected." in page
    assert ada_in.cookie == cookie
    (user,) = User.scan()
    assert user.identities == {"google#1001", "github#1001"}
    assert ada_in.send(f"{PAGE}/disconnect", page=PAGE, identity="google#1001").status_code == 302
    assert "is disconnected" in ada_in.get(PAGE).text
    assert ada_in.send(f"{PAGE}/disconnect", page=PAGE, identity="github#1001").status_code == 302
    assert "You could not sign in any more." in ada_in.get(PAGE).text
    assert stored(user).identities == {"github#1001"}
    assert ada_in.signed_in


def test_linking_is_not_begun_by_a_link_or_another_site_or_a_stranger(ada_in: Browser) -> None:
    assert ada_in.post("/oauth/github/start", data={"purpose": "link"}).status_code == 403
    stranger = Browser(ada_in.server)
    form = {"csrfmiddlewaretoken": stranger.csrf_token(), "purpose": "link"}
    assert stranger.post("/oauth/github/start", data=form).status_code == 401
    assert len(list(Identity.scan())) == 1


def test_linking_needs_the_session_that_began_it(
    ada_in: Browser, browsers: Callable[[], Browser], provider: Provider
) -> None:
    """Eve begins to connect her own account, and sends Ada the way back: Ada's account must not get it."""
    provider.person = Person(subject="2002", email="eve@example.com")
    eve = browsers()
    eve.sign_in_with("google")
    form = {"csrfmiddlewaretoken": eve.csrf_token(PAGE), "purpose": "link"}
    back = eve.agree(eve.post("/oauth/github/start", data=form).headers["Location"])
    answer = ada_in.get(back)
    assert answer.status_code == 400
    assert 'data-code="oauth_state"' in answer.text
    assert Identity.find("github#2002") is None
    # Nor after Eve has signed out in this browser and somebody else has signed in.
    eve.send("/signout", page=PAGE)
    provider.person = Person()
    eve.sign_in_with("google")
    assert eve.get(back).status_code == 400
    assert Identity.find("github#2002") is None


def test_a_linking_under_way_ends_with_the_session(ada_in: Browser) -> None:
    form = {"csrfmiddlewaretoken": ada_in.csrf_token(PAGE), "purpose": "link"}
    back = ada_in.agree(ada_in.post("/oauth/github/start", data=form).headers["Location"])
    (user,) = User.scan()
    sessions_end(actor=acting(user), user_id=user.user_id)
    assert ada_in.get(back).status_code in (400, 401)
    assert Identity.find("github#1001") is None


def test_what_is_begun_with_two_providers_at_once_ends_as_it_began(ada_in: Browser, provider: Provider) -> None:
    """In one tab she connects an account, in another one she signs in again."""
    form = {"csrfmiddlewaretoken": ada_in.csrf_token(PAGE), "purpose": "link"}
    linking = ada_in.agree(ada_in.post("/oauth/github/start", data=form).headers["Location"])
    ada_in.post("/oauth/google/start", data={"csrfmiddlewaretoken": ada_in.csrf_token(PAGE)})
    assert ada_in.get(linking).headers["Location"] == PAGE
    assert len(list(Identity.scan())) == 2


def test_an_account_of_another_user_is_refused_on_a_page(
    ada_in: Browser, browsers: Callable[[], Browser], provider: Provider
) -> None:
    provider.person = Person(subject="2002", email="eve@example.com")
    browsers().sign_in_with("github")
    answer = connect(ada_in, "github")
    assert answer.status_code == 409
    assert 'data-code="identity_taken"' in answer.text
    assert "Connect another GitHub account" in answer.text
    assert ada_in.signed_in


def test_an_admin_who_was_made_by_a_command_connects_a_provider(
    browser: Browser, provider: Provider, settings: Any
) -> None:
    """The password account with the address of the provider's: until now this was an error for ever."""
    settings.PASSWORD_SIGN_IN = True
    settings.ALLOWED_DOMAINS = {}
    user = user_create(email="ada@example.com", password=PASSWORD, name="Ada", role="admin", actor=SYSTEM)
    assert browser.sign_in_with("google").status_code == 403
    browser.sign_in()
    assert "Password" in browser.get(PAGE).text
    assert connect(browser, "google").status_code == 302
    again = Browser(browser.server)
    assert again.sign_in_with("google").status_code == 302
    assert stored(user).identities == {"google#1001"}
