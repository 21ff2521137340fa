"""Invitations: an admin invites an address, and the first verified sign-in or a password takes the invitation."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import requests

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import AccountClaim, Identity, Invitation, Session, User, secret_hash
from apps.accounts.policies import ROLES
from apps.accounts.selectors import invitation_by_email, invitation_by_token, user_by_email
from apps.accounts.services import (
    identity_sign_in,
    invitation_accept,
    invitation_accept_password,
    invitation_create,
    invitation_revoke,
    user_create,
    user_delete,
    user_disable,
    user_update,
)
from apps.accounts.session_store import SessionStore
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, InvalidInput, NotFound
from tests.accounts.browser import Browser
from tests.accounts.provider import Person, Provider
from tests.conftest import ADMIN, OPERATOR, PASSWORD, ada_create
from tests.faults.injection import Fault, outage

pytestmark = pytest.mark.usefixtures("tables")

EVE = ProviderIdentity("google", "2002", "eve@example.com", "Eve")
# Of the same person, under an address that was not invited.
PRIVATE = ProviderIdentity("github", "77", "eve@private.example", "eve")


@pytest.fixture(autouse=True)
def _strangers_are_refused(settings: Any) -> None:
    settings.ALLOWED_ADDRESSES, settings.ALLOWED_DOMAINS, settings.ALLOWED_GITHUB_ORGS = {}, {}, {}


@pytest.fixture
def zoe(tables: None) -> Actor:
    """An admin."""
    user = user_create(email="zoe@example.com", password=PASSWORD, name="Zoe", role="admin", actor=SYSTEM)
    return Actor("user", user.user_id, user.name, frozenset(ROLES["admin"]))


def invite(email: str = "eve@example.com", role: str = "operator", actor: Actor = SYSTEM) -> tuple[Invitation, str]:
    return invitation_create(email=email, role=role, actor=actor)


def trail(action: str) -> list[AuditRecord]:
    return list(AuditRecord.scan(AuditRecord.action == action))


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(ApplicationError) as refusal:
        act()
    return refusal.value.code


# --- making and revoking --------------------------------------------------------------------------------------------


def test_an_invitation_is_kept_by_the_hash_of_its_token_for_seven_days(zoe: Actor) -> None:
    before = clock.now().replace(microsecond=0)
    invitation, token = invite(" Eve@Example.com ", actor=zoe)
    stored = invitation_by_token(token)
    assert (stored.email, stored.role, stored.inviter_name) == ("eve@example.com", "operator", "Zoe")
    assert token not in str(stored.to_simple_dict())
    assert stored.token_hash == secret_hash(token)
    assert before <= stored.expires_at - timedelta(days=7) <= clock.now()
    (made,) = trail("invitation.created")
    assert made.target == f"invitation:{invitation.invitation_id}"
    assert (made.actor_id, made.detail["email"], made.detail["role"]) == (zoe.id, "eve@example.com", "operator")


@pytest.mark.parametrize("actor", [OPERATOR, Actor("agent", "a", "build-1"), Actor("token", "t", "ci", frozenset())])
def test_only_who_manages_accounts_invites_and_revokes(actor: Actor) -> None:
    invitation, token = invite()
    assert code_of(lambda: invitation_create(email="x@example.com", role="admin", actor=actor)) == "forbidden"
    assert code_of(lambda: invitation_revoke(invitation=invitation, actor=actor)) == "forbidden"
    assert invitation_by_token(token)
    assert len(list(Invitation.scan())) == 1


@pytest.mark.parametrize(("field", "value"), [("email", "no address"), ("role", "root")])
def test_what_cannot_be_invited_is_refused_by_field(field: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        invite(value) if field == "email" else invite(role=value)
    assert [error["field"] for error in refusal.value.errors] == [field]
    assert list(Invitation.scan()) == []


def test_an_address_that_has_a_user_is_not_invited() -> None:
    ada_create()
    assert code_of(lambda: invite("ADA@example.com")) == "email_taken"
    assert trail("invitation.created") == []


def test_inviting_an_address_again_ends_the_earlier_invitation() -> None:
    _, first = invite()
    _, second = invite(role="viewer")
    assert code_of(lambda: invitation_by_token(first)) == "invitation_invalid"
    assert invitation_by_token(second).role == "viewer"
    assert len(list(Invitation.scan())) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_who_invite_an_address_at_once_one_link_works_and_the_trail_says_what_replaced_what(
    is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other admin comes between the read and the write of this one."""
    from apps.accounts.services import invitations

    made = [] if is_first else [invite()[0].invitation_id]
    links: list[str] = []

    def read(email: str) -> Invitation | None:
        found = invitation_by_email(email)
        if not links:
            links.append("")
            links[0] = invite(role="viewer")[1]
        return found

    monkeypatch.setattr(invitations, "invitation_by_email", read)
    links.append(invite(role="auditor")[1])
    assert code_of(lambda: invitation_by_token(links[0])) == "invitation_invalid"
    assert invitation_by_token(links[1]).role == "auditor"
    created = sorted(trail("invitation.created"), key=lambda record: str(record.entry))
    made += [record.target.removeprefix("invitation:") for record in created[len(made) :]]
    assert [record.detail.get("replaces") for record in created] == [None, *made[:-1]]


@pytest.mark.parametrize("token", ["", "hci_", "hci_" + "0" * 75, "hcp_" + "x" * 43, "é" * 79])
def test_a_text_that_is_no_invitation_is_refused(token: str) -> None:
    invite()
    assert code_of(lambda: invitation_by_token(token)) == "invitation_invalid"


def test_a_token_with_the_right_address_and_another_secret_is_refused() -> None:
    _, token = invite()
    assert code_of(lambda: invitation_by_token(token[:-43] + "A" * 43)) == "invitation_invalid"


def test_a_revoked_invitation_is_refused_at_once_and_recorded_once() -> None:
    invitation, token = invite()
    invitation_revoke(invitation=invitation, actor=ADMIN)
    invitation_revoke(invitation=invitation, actor=ADMIN)
    assert code_of(lambda: invitation_by_token(token)) == "invitation_invalid"
    assert code_of(lambda: invitation_accept(invitation=invitation, identity=EVE)) == "invitation_invalid"
    assert code_of(lambda: identity_sign_in(EVE)) == "not_allowed"
    assert len(trail("invitation.revoked")) == 1
    assert list(User.scan()) == []


def test_revoking_an_earlier_invitation_leaves_the_later_one() -> None:
    earlier, _ = invite()
    _, later = invite()
    invitation_revoke(invitation=earlier, actor=ADMIN)
    assert invitation_by_token(later)


# --- taking ---------------------------------------------------------------------------------------------------------


def test_the_first_verified_sign_in_by_a_provider_takes_the_invitation() -> None:
    """Without the link: the provider has verified the invited address."""
    invite()
    user = identity_sign_in(EVE)
    assert (user.email, user.role, user.name, user.invited) == ("eve@example.com", "operator", "Eve", True)
    assert user_by_email("eve@example.com").user_id == user.user_id
    assert user.identities == {"google#2002"}
    assert list(Invitation.scan()) == []
    assert identity_sign_in(EVE).user_id == user.user_id
    assert [record.target for record in trail("user.created")] == [f"user:{user.user_id}"]


def test_add_user_never_makes_an_account_that_locks_its_owner_out(zoe: Actor) -> None:
    """What an admin adds is an invitation: the owner comes in by any provider, and not with an error for ever."""
    _, token = invite(actor=zoe)
    user = invitation_accept(invitation=invitation_by_token(token), identity=PRIVATE)
    assert user.email == "eve@example.com"
    assert identity_sign_in(PRIVATE).user_id == user.user_id
    (accepted,) = trail("invitation.accepted")
    assert accepted.detail["provider_email"] == "eve@private.example"
    assert (accepted.detail["user"], accepted.detail["invited_by"]) == (user.user_id, zoe.id)
    assert accepted.actor_id == user.user_id


def test_a_password_takes_the_invitation_by_its_link() -> None:
    _, token = invite()
    user = invitation_accept_password(invitation=invitation_by_token(token), name="Eve", password=PASSWORD)
    assert (user.email, user.role, user.invited, user.identities) == ("eve@example.com", "operator", True, None)
    assert user.password.startswith("md5$")
    assert list(Invitation.scan()) == []


def test_a_bad_password_or_name_leaves_the_invitation() -> None:
    invitation, token = invite()
    for changes in ({"password": "short"}, {"name": " "}):
        values: Any = {"name": "Eve", "password": PASSWORD, **changes}
        assert code_of(partial(invitation_accept_password, invitation=invitation, **values)) == "invalid_input"
    assert invitation_by_token(token)
    assert list(User.scan()) == []


def test_an_unverified_address_takes_no_invitation() -> None:
    _, token = invite()
    assert code_of(lambda: identity_sign_in(ProviderIdentity("google", "1", None, "Eve"))) == "not_allowed"
    assert invitation_by_token(token)


def test_an_invitation_gives_its_role_and_not_the_settings(settings: Any) -> None:
    settings.ALLOWED_DOMAINS = {"example.com": "viewer"}
    invite(role="admin")
    assert identity_sign_in(EVE).role == "admin"


def test_the_invited_may_sign_in_whatever_the_settings_say_until_an_admin_disables_them(settings: Any) -> None:
    settings.ALLOWED_DOMAINS = {"example.com": "viewer"}
    invite()
    user = identity_sign_in(EVE)
    settings.ALLOWED_DOMAINS = {}
    assert identity_sign_in(EVE).user_id == user.user_id
    user_disable(user_id=user.user_id, actor=ADMIN)
    assert code_of(lambda: identity_sign_in(EVE)) == "account_disabled"


def test_an_expired_invitation_is_refused_although_it_is_still_stored(settings: Any) -> None:
    invitation, token = invite()
    with clock.shifted(timedelta(days=7, seconds=1)):
        assert code_of(lambda: invitation_by_token(token)) == "invitation_expired"
        assert code_of(lambda: invitation_accept(invitation=invitation, identity=PRIVATE)) == "invitation_invalid"
        assert code_of(lambda: identity_sign_in(EVE)) == "not_allowed"
    with clock.shifted(timedelta(days=6, hours=23)):
        assert invitation_by_token(token)
    assert list(User.scan()) == []


def test_an_invitation_that_is_replaced_while_it_is_accepted_is_refused_and_the_later_one_stays() -> None:
    earlier, _ = invite(role="admin")
    _, later = invite(role="viewer")
    assert code_of(lambda: invitation_accept(invitation=earlier, identity=PRIVATE)) == "invitation_invalid"
    assert invitation_by_token(later)
    assert list(User.scan()) == []


@pytest.mark.parametrize("change", ["demoted", "disabled", "deleted"])
def test_an_invitation_ends_with_its_inviters_being_an_admin(change: str, zoe: Actor) -> None:
    """Otherwise someone who is shown the door could have invited themselves as an admin."""
    invitation, _ = invite(role="admin", actor=zoe)
    user_create(email="kim@example.com", password=PASSWORD, name="Kim", role="admin", actor=SYSTEM)
    match change:
        case "demoted":
            user_update(user_id=zoe.id, name="Zoe", role="viewer", is_active=True, revision=0, actor=SYSTEM)
        case "disabled":
            user_disable(user_id=zoe.id, actor=SYSTEM)
        case _:
            user_delete(user_id=zoe.id, actor=SYSTEM)
    assert code_of(lambda: invitation_accept(invitation=invitation, identity=PRIVATE)) == "invitation_invalid"
    late = lambda: invitation_accept_password(invitation=invitation, name="E", password=PASSWORD)  # noqa: E731
    assert code_of(late) == "invitation_invalid"
    assert code_of(lambda: identity_sign_in(EVE)) == "not_allowed"
    assert user_by_email("eve@example.com") is None
    assert list(Identity.scan()) == []


def test_an_invitation_is_taken_once() -> None:
    invitation, _ = invite()
    invitation_accept(invitation=invitation, identity=EVE)
    assert code_of(lambda: invitation_accept(invitation=invitation, identity=PRIVATE)) == "invitation_invalid"
    late = lambda: invitation_accept_password(invitation=invitation, name="E", password=PASSWORD)  # noqa: E731
    assert code_of(late) == "invitation_invalid"
    assert len(list(User.scan())) == 1


def test_of_eight_who_take_an_invitation_at_once_one_wins_and_nothing_is_half_done() -> None:
    invitation, _ = invite()

    def take(number: int) -> str:
        identity = ProviderIdentity("google", str(number), f"e{number}@private.example", f"E{number}")
        try:
            return invitation_accept(invitation=invitation, identity=identity).user_id
        except NotFound as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(take, range(8)))
    assert results.count("invitation_invalid") == 7
    (user,) = User.scan()
    assert user.user_id in results
    assert [row.user_id for row in Identity.scan()] == [row.user_id for row in AccountClaim.scan()] == [user.user_id]
    assert len(trail("invitation.accepted")) == len(trail("user.created")) == 1


def test_an_identity_of_another_user_takes_no_invitation() -> None:
    invite()
    identity_sign_in(EVE)
    invitation, token = invite("second@example.com")
    assert code_of(lambda: invitation_accept(invitation=invitation, identity=EVE)) == "identity_taken"
    assert invitation_by_token(token)
    assert user_by_email("second@example.com") is None


def test_an_address_that_got_a_user_meanwhile_is_reported_and_the_invitation_stays() -> None:
    invitation, token = invite("ada@example.com")
    ada_create()
    with pytest.raises(Conflict) as refusal:
        invitation_accept(invitation=invitation, identity=PRIVATE)
    assert refusal.value.code == "email_taken"
    assert invitation_by_token(token)
    assert list(Identity.scan()) == []


def test_a_stranger_without_an_invitation_is_refused() -> None:
    invite()
    with pytest.raises(Forbidden):
        identity_sign_in(PRIVATE)


def test_a_management_command_may_invite() -> None:
    invitation, _ = invitation_create(email="eve@example.com", role="admin", actor=SYSTEM)
    assert invitation.inviter_name == "control plane"


# --- the pages ------------------------------------------------------------------------------------------------------


def shown(browser: Browser, token: str) -> requests.Response:
    """Open the link: the script puts the token into the form, and the person sends it."""
    return browser.send("/invitation", page="/invitation", code=token)


def accepted_with(browser: Browser, name: str) -> requests.Response:
    """Accept by a provider, from the page that shows the invitation."""
    token = browser.csrf_token("/invitation/accept")
    form = {"csrfmiddlewaretoken": token, "purpose": "invitation", "choose": "account"}
    answer = browser.post(f"/oauth/{name}/start", data=form)
    assert answer.status_code == 302, answer.text
    return browser.get(browser.agree(answer.headers["Location"]))


def test_the_page_shows_who_invites_to_what_and_the_token_is_in_no_address(
    browser: Browser, provider: Provider, zoe: Actor
) -> None:
    _, token = invite(actor=zoe)
    answer = shown(browser, f" {token} ")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/invitation/accept")
    page = browser.get("/invitation/accept").text
    assert "Zoe invites" in page
    assert "eve@example.com" in page
    assert "role operator" in page
    assert "Accept with Google" in page
    assert "Accept with GitHub" in page
    assert 'name="password_again"' in page
    assert token not in page
    (session,) = Session.scan()
    assert token not in str(SessionStore().decode(session.data))


def test_an_invited_person_comes_in_by_the_link_with_any_provider(browser: Browser, provider: Provider) -> None:
    provider.person = Person(subject="77", email="eve@private.example", name="Eve")
    _, token = invite()
    shown(browser, token)
    answer = accepted_with(browser, "github")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/dashboard/")
    assert browser.signed_in
    user = user_by_email("eve@example.com")
    assert (user.role, user.identities) == ("operator", {"github#77"})
    (session,) = Session.by_user.query(user.user_id)
    assert "_invitation" not in SessionStore().decode(Session.find(session.token_hash).data)
    # The next time, without the link.
    again = Browser(browser.server)
    assert again.sign_in_with("github").status_code == 302
    assert again.signed_in


def test_an_invited_person_comes_in_without_the_link_by_the_verified_address(
    browser: Browser, provider: Provider
) -> None:
    provider.person = Person(subject="2002", email="Eve@Example.com", name="Eve")
    invite()
    assert browser.sign_in_with("google").status_code == 302
    assert user_by_email("eve@example.com").role == "operator"


def test_an_unverified_address_needs_the_link(browser: Browser, provider: Provider) -> None:
    provider.person = Person(subject="2002", email="eve@example.com", verified=False, name="Eve")
    _, token = invite()
    assert browser.sign_in_with("google").status_code == 403
    shown(browser, token)
    assert accepted_with(browser, "google").status_code == 302
    assert browser.signed_in


def test_an_invited_person_comes_in_with_a_password_where_these_are_allowed(browser: Browser) -> None:
    _, token = invite()
    shown(browser, token)
    form = {"name": "Eve", "password": PASSWORD, "password_again": PASSWORD}
    assert browser.send("/invitation/accept", page="/invitation/accept", **form).status_code == 302
    assert browser.signed_in
    assert Browser(browser.server).sign_in("eve@example.com").status_code == 302


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password_again": "another one"}, "The two passwords differ."),
        ({"password": "short", "password_again": "short"}, "too short"),
        ({"name": " "}, "This field is required."),
        ({"name": "x" * 101}, "at most 100 characters"),
    ],
)
def test_a_form_that_cannot_be_accepted_says_why_and_leaves_the_invitation(
    browser: Browser, changes: dict[str, str], message: str
) -> None:
    _, token = invite()
    shown(browser, token)
    form = {"name": "Eve", "password": PASSWORD, "password_again": PASSWORD, **changes}
    answer = browser.send("/invitation/accept", page="/invitation/accept", **form)
    assert answer.status_code == 422
    assert message in answer.text
    assert PASSWORD not in answer.text
    assert invitation_by_token(token)


def test_where_passwords_are_off_none_takes_an_invitation(browser: Browser, provider: Provider, settings: Any) -> None:
    settings.PASSWORD_SIGN_IN = False
    _, token = invite()
    shown(browser, token)
    assert "password" not in browser.get("/invitation/accept").text
    form = {"name": "Eve", "password": PASSWORD, "password_again": PASSWORD}
    assert browser.send("/invitation/accept", page="/invitation/accept", **form).status_code == 403
    assert list(User.scan()) == []


def test_who_takes_an_invitation_second_gets_a_clear_page(browsers: Callable[[], Browser], provider: Provider) -> None:
    first, second, third = browsers(), browsers(), browsers()
    _, token = invite()
    for browser in (first, second):
        assert shown(browser, token).status_code == 302
    assert accepted_with(first, "google").status_code == 302
    provider.person = Person(subject="3003", email="zoe@private.example")
    for answer in (shown(third, token), second.get("/invitation/accept")):
        assert answer.status_code == 404
        assert "unknown, used, revoked or replaced" in answer.text
    assert len(list(User.scan())) == 1


def test_an_invitation_that_is_taken_while_one_is_at_the_provider_makes_no_second_user(
    browsers: Callable[[], Browser], provider: Provider
) -> None:
    first, second = browsers(), browsers()
    _, token = invite()
    for browser in (first, second):
        shown(browser, token)
    form = {"csrfmiddlewaretoken": second.csrf_token("/invitation/accept"), "purpose": "invitation"}
    there = second.post("/oauth/google/start", data=form).headers["Location"]
    assert accepted_with(first, "github").status_code == 302
    provider.person = Person(subject="3003", email="zoe@private.example")
    answer = second.get(second.agree(there))
    assert answer.status_code == 404
    assert 'data-code="invitation_invalid"' in answer.text
    assert not second.signed_in
    assert len(list(User.scan())) == 1
    (failed,) = trail("user.sign_in_failed")
    assert failed.detail["reason"] == "invitation_invalid"


def test_nothing_is_begun_without_an_invitation(browser: Browser, provider: Provider) -> None:
    assert browser.get("/invitation/accept").status_code == 404
    form = {"csrfmiddlewaretoken": browser.csrf_token(), "purpose": "invitation"}
    answer = browser.post("/oauth/google/start", data=form)
    assert answer.status_code == 404
    assert 'data-code="invitation_invalid"' in answer.text


def test_an_ordinary_sign_in_takes_no_invitation_that_was_shown_before(browser: Browser, provider: Provider) -> None:
    _, token = invite()
    shown(browser, token)
    provider.person = Person(subject="3003", email="zoe@example.com")
    assert browser.sign_in_with("google").status_code == 302
    assert user_by_email("zoe@example.com").role == "viewer"
    assert invitation_by_token(token)


def test_who_is_signed_in_takes_no_invitation(browser: Browser, ada: User) -> None:
    _, token = invite()
    browser.sign_in()
    shown(browser, token)
    answer = browser.get("/invitation/accept")
    assert answer.status_code == 409
    assert "You are signed in as ada@example.com." in answer.text
    assert invitation_by_token(token)


def test_while_dynamodb_does_not_answer_an_invitation_is_neither_refused_nor_taken(browser: Browser) -> None:
    _, token = invite()
    form = {"csrfmiddlewaretoken": browser.csrf_token("/invitation"), "code": token}
    shown(browser, token)
    password = {"name": "Eve", "password": PASSWORD, "password_again": PASSWORD}
    with outage(Fault.ERROR):
        for path, data in (("/invitation", form), ("/invitation/accept", {**form, **password})):
            answer = browser.post(path, data=data)
            assert answer.status_code == 503, path
            assert int(answer.headers["Retry-After"]) > 0
    assert browser.send("/invitation/accept", page="/invitation/accept", **password).status_code == 302


def test_wrong_codes_are_limited_by_client_and_the_right_one_is_not(
    browser: Browser, settings: Any, new_window: None
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    _, token = invite()
    wrong = [shown(browser, "hci_" + "0" * 75).status_code for _ in range(11)]
    assert wrong == [404] * 10 + [429]
    assert shown(browser, token).status_code == 302


def test_a_wrong_code_is_refused_without_a_session(browser: Browser) -> None:
    invite()
    assert shown(browser, "hci_" + "0" * 75).status_code == 404
    assert browser.send("/invitation", page="/invitation", code="").status_code == 422
    assert list(Session.scan()) == []
