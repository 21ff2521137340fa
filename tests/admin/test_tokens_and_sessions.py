"""API tokens and sessions in the admin: what opens something is shown once or never."""

import re

from apps.accounts.models import ApiToken, Session
from apps.accounts.selectors import session_list, user_by_email
from apps.accounts.services import api_token_create, session_start, sessions_end
from controlplane.lib.actor import SYSTEM
from tests.admin.conftest import Browser, SignIn, errors, keys, rows
from tests.clients import Client
from tests.conftest import ADMIN

TOKENS = "/admin/accounts/apitoken/"
SESSIONS = "/admin/accounts/session/"


def test_a_token_is_shown_once_and_opens_the_api(admin: Browser, server: str) -> None:
    answer = admin.send(f"{TOKENS}add/", email="admin@example.com", name="ci", days="30")
    assert "no-store" in answer.headers["Cache-Control"]
    secret = re.search(r"hcp_[\w-]{70}", answer.text)[0]
    assert Client(server, secret).get("/jobs").status_code == 200
    page = admin.page(TOKENS)
    assert secret not in page
    (key,) = keys(page)
    assert ApiToken.find(key).expires_at is not None
    assert "created" in rows(admin.page(f"{TOKENS}{key}/history/"))[0]


def test_a_token_may_do_no_more_than_its_owner(admin: Browser, sign_in: SignIn) -> None:
    sign_in("viewer")
    answer = admin.send(f"{TOKENS}add/", email="viewer@example.com", name="ci", permissions="jobs.create")
    assert "must be permissions that the token's owner has" in errors(answer.text)
    answer = admin.send(f"{TOKENS}add/", email="nobody@example.com", name="ci")
    assert "must be the e-mail address of a user" in errors(answer.text)
    assert rows(admin.page(TOKENS)) == []


def test_a_revoked_token_opens_nothing(admin: Browser, server: str) -> None:
    token, secret = api_token_create(user=user_by_email("admin@example.com"), name="ci", actor=SYSTEM)
    asked = admin.act(TOKENS, "revoke", token.token_hash, confirmed=False)
    assert "refused at once" in asked.text
    assert "Revoked: ci." in admin.said(admin.act(TOKENS, "revoke", token.token_hash))
    assert Client(server, secret).get("/jobs").status_code == 401


def test_deleting_a_token_revokes_it(admin: Browser) -> None:
    token, _ = api_token_create(user=user_by_email("admin@example.com"), name="ci", actor=SYSTEM)
    path = f"{TOKENS}{token.token_hash}/delete/"
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', admin.page(path))
    assert admin.post(path, data={"csrfmiddlewaretoken": found[1], "post": "yes"}).status_code == 302
    assert ApiToken.find(token.token_hash) is None


def test_tokens_are_found_by_name_and_by_owner(admin: Browser, sign_in: SignIn) -> None:
    sign_in("viewer")
    me, viewer = user_by_email("admin@example.com"), user_by_email("viewer@example.com")
    for name, owner in (("Nightly", me), ("nightmare", viewer), ("deploy", viewer)):
        api_token_create(user=owner, name=name, actor=SYSTEM)
    assert [row.split()[0] for row in rows(admin.page(TOKENS))] == ["deploy", "Nightly", "nightmare"]
    assert [row.split()[0] for row in rows(admin.page(TOKENS, params={"q": "NIGHT"}))] == ["Nightly", "nightmare"]
    found = rows(admin.page(TOKENS, params={"q": "viewer@example.com"}))
    assert sorted(row.split()[0] for row in found) == ["deploy", "nightmare"]
    assert len(rows(admin.page(TOKENS, params={"user_id": viewer.user_id}))) == 2


def test_my_sessions_are_listed_first_and_others_by_address(admin: Browser, sign_in: SignIn) -> None:
    sign_in("viewer")
    viewer = user_by_email("viewer@example.com")
    assert len(rows(admin.page(SESSIONS))) == 1
    assert "These are your own" in admin.page(SESSIONS)
    assert len(rows(admin.page(SESSIONS, params={"q": "Viewer@example.com"}))) == 1
    page = admin.page(SESSIONS, params={"user_id": viewer.user_id})
    assert keys(page) == [session.token_hash for session in session_list(viewer.user_id).sessions]
    assert rows(admin.page(SESSIONS, params={"q": "nobody@example.com"})) == []


def test_many_sessions_are_listed_page_by_page(admin: Browser, sign_in: SignIn) -> None:
    from apps.accounts.admin.sessions import SessionFacade

    sign_in("viewer")
    user = user_by_email("viewer@example.com")
    assert user is not None
    for _ in range(5):
        session_start(user=user, provider="google", device=None, address="192.0.2.7")
    sessions = SessionFacade.objects.get_queryset().filter(user_id=user.user_id)
    found, page = [], sessions.page(limit=2)
    found += page.objects
    while page.next_cursor:
        page = sessions.page(limit=2, cursor=page.next_cursor)
        found += page.objects
    assert [each.pk for each in found] == [session.token_hash for session in session_list(user.user_id).sessions]
    assert len(found) == 6


def test_a_session_is_revoked_at_once(admin: Browser, sign_in: SignIn) -> None:
    viewer = sign_in("viewer")
    user_id = user_by_email("viewer@example.com").user_id
    path = f"{SESSIONS}?user_id={user_id}"
    (key,) = keys(admin.page(path))
    assert "Revoked" in admin.said(admin.act(path, "revoke", key))
    assert viewer.get("/dashboard/").status_code == 302
    assert session_list(user_id).sessions == []


def test_sessions_that_have_ended_are_not_listed(admin: Browser, sign_in: SignIn) -> None:
    sign_in("viewer")
    viewer = user_by_email("viewer@example.com")
    path = f"{SESSIONS}?user_id={viewer.user_id}"
    assert len(rows(admin.page(path))) == 1
    sessions_end(actor=ADMIN, user_id=viewer.user_id)
    assert rows(admin.page(path)) == []
    assert len(list(Session.by_user.query(viewer.user_id))) == 1
    assert rows(admin.page(f"{SESSIONS}?user_id=01kaadmin00000000000000000")) == []


def test_no_page_shows_the_data_of_a_session(admin: Browser) -> None:
    cookie = admin.session.cookies.get("sessionid")
    page = admin.page(SESSIONS)
    for session in Session.scan():
        assert session.data not in page
    assert cookie not in page
    for path in ("add/", f"{keys(page)[0]}/change/", f"{keys(page)[0]}/history/", f"{keys(page)[0]}/delete/"):
        assert admin.get(f"{SESSIONS}{path}").status_code == 404
