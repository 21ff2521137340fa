"""Invitations in the admin: made by the form that adds a user, shown once, listed and revoked."""

import re
from datetime import timedelta
from html import unescape

import pytest

from apps.accounts.models import Invitation, User
from apps.accounts.selectors import invitation_by_token, user_by_email
from apps.accounts.services import invitation_create
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.errors import NotFound
from tests.admin.conftest import Browser, SignIn, errors, keys, rows
from tests.conftest import ADMIN

LIST = "/admin/accounts/invitation/"


def test_an_admin_invites_and_gets_the_link_once(admin: Browser) -> None:
    answer = admin.send(f"{LIST}add/", email="Eve@example.com", role="operator")
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    link = re.search(r"<code class=\"record-secret\">([^<]+)</code>", answer.text)
    assert link
    address, _, token = unescape(link[1]).partition("#")
    assert address == f"{admin.server}/invitation"
    invitation = invitation_by_token(token)
    assert (invitation.email, invitation.role) == ("eve@example.com", "operator")
    assert invitation.expires_at.strftime("%Y-%m-%d %H:%M UTC") in answer.text
    assert user_by_email("eve@example.com") is None
    assert "hci_" not in admin.page(LIST)
    (key,) = keys(admin.page(LIST))
    page = admin.page(f"{LIST}{key}/change/")
    assert "hci_" not in page
    assert invitation.token_hash not in page
    assert "invitation created" in rows(admin.page(f"{LIST}{key}/history/"))[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"email": "admin@example.com"}, "There is a user with this e-mail address already."),
        ({"email": "no address"}, "must be an e-mail address"),
        ({"email": ""}, "This field is required."),
        ({"role": "root"}, "Select a valid choice"),
    ],
)
def test_what_the_service_refuses_is_reported_at_the_field(
    admin: Browser, changes: dict[str, str], message: str
) -> None:
    answer = admin.send(f"{LIST}add/", **{"email": "eve@example.com", "role": "viewer", **changes})
    assert answer.status_code == 200
    assert message in errors(answer.text)
    assert list(Invitation.scan()) == []


def test_open_invitations_are_listed_newest_first_and_expired_ones_say_so(admin: Browser) -> None:
    with clock.shifted(timedelta(days=-8)):
        invitation_create(email="old@example.com", role="viewer", actor=ADMIN)
    invitation_create(email="new@example.com", role="operator", actor=ADMIN)
    first, second = rows(admin.page(LIST))
    assert (first.split()[0], first.split()[-1]) == ("new@example.com", "open")
    assert (second.split()[0], second.split()[-1]) == ("old@example.com", "expired")


def test_a_revoked_invitation_leaves_the_list_and_its_link_is_dead(admin: Browser) -> None:
    _, token = invitation_create(email="eve@example.com", role="viewer", actor=ADMIN)
    (key,) = keys(admin.page(LIST))
    assert "Their links work no more." in admin.act(LIST, "revoke", key, confirmed=False).text
    assert "Revoked: eve@example.com." in admin.said(admin.act(LIST, "revoke", key))
    assert rows(admin.page(LIST)) == []
    with pytest.raises(NotFound):
        invitation_by_token(token)
    (revoked,) = AuditRecord.scan(AuditRecord.action == "invitation.revoked")
    assert revoked.actor_id == user_by_email("admin@example.com").user_id


def test_only_who_manages_accounts_sees_and_makes_invitations(operator: Browser, sign_in: SignIn) -> None:
    auditor = sign_in("auditor")
    for browser in (operator, auditor):
        for path in (LIST, f"{LIST}add/", "/admin/accounts/user/add/"):
            assert browser.get(path).status_code == 403, path
    assert len(list(User.scan())) == 2
