"""People in the admin: found, made, changed, shut out, and never overwritten."""

import re

import pytest

from apps.accounts.models import User
from apps.accounts.policies import ROLES
from apps.accounts.selectors import user_by_email, user_get
from apps.accounts.services import user_create, user_disable, user_update, users
from apps.audit.models import AuditRecord
from controlplane.lib.actor import SYSTEM, Actor
from tests.admin.conftest import Browser, SignIn, errors, form_values, rows
from tests.conftest import PASSWORD
from tests.metering import dynamodb_calls

LIST = "/admin/accounts/user/"


def make(name: str, role: str = "viewer") -> User:
    return user_create(email=f"{name.lower()}@example.com", password=PASSWORD, name=name, role=role, actor=SYSTEM)


def test_people_are_listed_by_address(admin: Browser) -> None:
    for name in ("Zoe", "Eve"):
        make(name)
    assert [row.split()[0] for row in rows(admin.page(LIST))] == [
        "admin@example.com",
        "eve@example.com",
        "zoe@example.com",
    ]


def test_they_are_found_by_the_beginning_of_a_name_or_an_address_in_any_case(admin: Browser) -> None:
    for name in ("Grace", "Gregor", "Eve"):
        make(name)
    assert [row.split()[0] for row in rows(admin.page(LIST, params={"q": "GR"}))] == [
        "grace@example.com",
        "gregor@example.com",
    ]
    assert [row.split()[0] for row in rows(admin.page(LIST, params={"q": "Eve@EX"}))] == ["eve@example.com"]
    assert rows(admin.page(LIST, params={"q": "nobody"})) == []


def test_they_are_filtered_by_role_and_by_being_active(admin: Browser) -> None:
    eve, zoe = make("Eve"), make("Zoe", role="operator")
    user_update(user_id=eve.user_id, name="Eve", role="viewer", is_active=False, revision=0, actor=SYSTEM)
    assert [row.split()[0] for row in rows(admin.page(LIST, params={"role": "operator"}))] == [zoe.email]
    assert [row.split()[0] for row in rows(admin.page(LIST, params={"is_active": "no"}))] == [eve.email]


def test_a_list_has_pages_in_both_directions(admin: Browser) -> None:
    for number in range(110):
        User(
            f"u{number:03}",
            email=f"u{number:03}@example.com",
            name="U",
            name_key="u",
            role="viewer",
            password="x",
            created_at="2026",
        ).save()
    seen, path, pages = [], LIST, []
    while path:
        page = admin.page(path)
        pages.append([row.split()[0] for row in rows(page)])
        seen += pages[-1]
        path = link(page, "next")
    assert len(seen) == len(set(seen)) == 111
    assert seen == sorted(seen)
    back = link(page, "prev")
    assert [row.split()[0] for row in rows(admin.page(back))] == pages[-2]
    assert link(admin.page(link(admin.page(back), "prev")), "prev") is None


def link(page: str, rel: str) -> str | None:
    import re
    from html import unescape

    found = re.search(rf'<a href="([^"]+)" rel="{rel}"', page)
    return LIST + unescape(found[1]) if found else None


def test_a_page_of_a_list_costs_three_calls(admin: Browser) -> None:
    make("Eve")
    with dynamodb_calls() as counted:
        admin.page(LIST)
    assert counted.operations[-2:] == ["Query", "BatchGetItem"]
    assert counted.calls <= 4


def test_add_user_leads_to_the_form_that_invites(admin: Browser) -> None:
    answer = admin.get(f"{LIST}add/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/accounts/invitation/add/")
    assert f'href="{LIST}add/' in admin.page(LIST)


def test_a_person_is_changed_and_the_change_is_in_their_history(admin: Browser) -> None:
    eve = make("Eve")
    answer = admin.send(f"{LIST}{eve.user_id}/change/", name="Eva", role="auditor")
    assert "was changed successfully" in admin.said(answer)
    stored = User.find(eve.user_id)
    assert (stored.name, stored.role, stored.is_active, stored.name_key) == ("Eva", "auditor", True, "eva")
    assert rows(admin.page(LIST, params={"q": "eva"})) != []
    history = rows(admin.page(f"{LIST}{eve.user_id}/history/"))
    assert [line.split("user ")[1] for line in history] == [
        "changed name Eve → Eva, role viewer → auditor",
        "created email eve@example.com, role viewer",
    ]
    assert "Admin" in history[0]


def test_of_two_users_who_change_one_user_the_second_gets_a_conflict_and_nothing_is_overwritten(
    admin: Browser, sign_in: SignIn
) -> None:
    eve = make("Eve")
    path = f"{LIST}{eve.user_id}/change/"
    other = sign_in("admin", "other@example.com")
    mine = form_values(admin.page(path))
    assert other.send(path, role="operator").status_code == 302
    answer = admin.post(path, data={**mine, "name": "Eva"})
    assert answer.status_code == 200
    assert "This user was changed after you opened it. Load it again." in errors(answer.text)
    assert "Your changes were not saved." in errors(answer.text)
    assert "Role is now: operator" in errors(answer.text)
    stored = User.find(eve.user_id)
    assert (stored.name, stored.role) == ("Eve", "operator")


def test_a_disabled_person_is_out_at_once(admin: Browser, sign_in: SignIn) -> None:
    viewer = sign_in("viewer")
    assert viewer.get("/dashboard/").status_code == 200
    user = user_by_email("viewer@example.com")
    admin.send(f"{LIST}{user.user_id}/change/", is_active=None)
    assert viewer.get("/dashboard/").status_code == 302


def test_users_cannot_lock_themselves_out(admin: Browser) -> None:
    me = user_by_email("admin@example.com")
    path = f"{LIST}{me.user_id}/change/"
    for changes in ({"role": "viewer"}, {"is_active": None}):
        answer = admin.send(path, **changes)
        assert "You cannot disable yourself or change your own role." in errors(answer.text)
    assert "You cannot disable yourself" in admin.said(admin.act(LIST, "disable", me.user_id))
    assert User.find(me.user_id).is_active


def test_a_new_password_ends_the_sessions_and_is_never_shown(admin: Browser, sign_in: SignIn) -> None:
    viewer = sign_in("viewer")
    user = user_by_email("viewer@example.com")
    path = f"{LIST}{user.user_id}/password/"
    assert user.password not in admin.page(path)
    assert "differ" in errors(admin.send(path, password="a new long password", password_again="x").text)
    assert "too short" in errors(admin.send(path, password="short", password_again="short").text)
    answer = admin.send(path, password="a new long password", password_again="a new long password")
    assert "was changed successfully" in admin.said(answer)
    assert viewer.get("/dashboard/").status_code == 302
    assert "password set" in rows(admin.page(f"{LIST}{user.user_id}/history/"))[0]


def test_sessions_and_disabling_are_acts_that_ask_first(admin: Browser, sign_in: SignIn) -> None:
    viewer = sign_in("viewer")
    user = user_by_email("viewer@example.com")
    asked = admin.act(LIST, "end_sessions", user.user_id, confirmed=False)
    assert asked.status_code == 200
    assert "All their sessions end at once" in asked.text
    assert viewer.get("/dashboard/").status_code == 200
    assert "Signed out everywhere: viewer@example.com" in admin.said(admin.act(LIST, "end_sessions", user.user_id))
    assert viewer.get("/dashboard/").status_code == 302
    assert "Disabled" in admin.said(admin.act(LIST, "disable", user.user_id))
    assert not User.find(user.user_id).is_active


def confirm_deletion(admin: Browser, user: User) -> str:
    path = f"{LIST}{user.user_id}/delete/"
    page = admin.page(path)
    assert "The audit trail keeps their name." in page
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    return admin.said(admin.post(path, data={"csrfmiddlewaretoken": token[1], "post": "yes"}))


def test_a_user_is_deleted_after_a_question_and_the_trail_stays(admin: Browser, sign_in: SignIn) -> None:
    viewer = sign_in("viewer")
    user = user_by_email("viewer@example.com")
    assert "was deleted successfully" in confirm_deletion(admin, user)
    assert User.find(user.user_id) is None
    assert viewer.get("/dashboard/").status_code == 302
    names = {
        record.action: record.actor_name for record in AuditRecord.scan(AuditRecord.target == f"user:{user.user_id}")
    }
    assert (names["user.signed_in"], names["user.deleted"]) == ("Viewer", "Admin")


def test_users_cannot_delete_themselves(admin: Browser) -> None:
    me = user_by_email("admin@example.com")
    assert "You cannot delete yourself." in confirm_deletion(admin, me)
    assert User.find(me.user_id)


def test_the_last_admin_is_named_where_the_change_was_made(
    admin: Browser, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two admins have each other's form open; the other one is quicker."""
    sign_in("admin", "other@example.com")
    me, other = user_by_email("admin@example.com"), user_by_email("other@example.com")
    path = f"{LIST}{other.user_id}/change/"
    form = form_values(admin.page(path))
    done: list[str] = []

    def read(user_id: str) -> User | None:
        found = user_get(user_id)
        if not done:
            done.append(user_id)
            user_disable(user_id=me.user_id, actor=Actor("user", other.user_id, "Other", frozenset(ROLES["admin"])))
        return found

    monkeypatch.setattr(users, "user_get", read)
    answer = admin.post(path, data={**form, "role": "viewer"})
    assert "is the last active admin. Make another user an admin first." in errors(answer.text)
    assert User.find(other.user_id).role == "admin"


def test_a_page_says_how_the_user_signs_in(admin: Browser) -> None:
    eve = make("Eve")
    assert "password" in admin.page(f"{LIST}{eve.user_id}/change/").partition("Signs in with:")[2][:200]


def test_roles_are_shown_with_what_they_allow(admin: Browser) -> None:
    lines = rows(admin.page("/admin/accounts/role/"))
    assert "accounts.manage" in " ".join(lines)
