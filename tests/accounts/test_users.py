"""People: who may be made, changed and deleted, that an address has one owner, and that an admin remains."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import AccountClaim, ApiToken, Identity, User
from apps.accounts.policies import ROLES
from apps.accounts.selectors import user_by_email, user_get
from apps.accounts.services import (
    api_token_create,
    api_token_verify,
    identity_link,
    identity_sign_in,
    invitation_accept,
    invitation_create,
    session_start,
    session_verify,
    user_create,
    user_delete,
    user_disable,
    user_password_rehash,
    user_password_set,
    user_update,
    users,
)
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, NotAuthenticated, NotFound
from tests.conftest import ADMIN, OPERATOR, PASSWORD

pytestmark = pytest.mark.usefixtures("tables")


def make(**changes: str) -> User:
    fields = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada", "role": "viewer"}
    return user_create(**{**fields, **changes}, actor=SYSTEM)


def actions() -> list[str]:
    return [record.action for record in audit_list(day=clock.timestamp(clock.now())[:10]).records]


def test_a_person_is_found_by_id_and_by_address_in_any_case() -> None:
    user = make(email="  Ada@Example.COM ")
    assert user.email == "ada@example.com"
    assert user_get(user.user_id).name == "Ada"
    assert user_by_email("ADA@example.com").user_id == user.user_id
    assert user_by_email("eve@example.com") is None


def test_the_password_is_kept_as_a_hash_only() -> None:
    stored = user_get(make().user_id)
    assert PASSWORD not in str(stored.to_simple_dict())
    assert stored.password.startswith("md5$")


@pytest.fixture
def _today(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hashed by MD5 is hashed by an older hasher now. A million rounds would show no more than one."""
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 1)
    hashers = "django.contrib.auth.hashers."
    settings.PASSWORD_HASHERS = [f"{hashers}PBKDF2PasswordHasher", f"{hashers}MD5PasswordHasher"]


def test_a_password_is_hashed_again_only_when_its_hasher_is_old(settings: Any) -> None:
    user = make()
    before = user.password
    user_password_rehash(user=user, password=PASSWORD)
    assert user_get(user.user_id).password == user.password == before


@pytest.mark.usefixtures("_today")
def test_an_old_hash_is_renewed_without_an_audit_event(settings: Any) -> None:
    user = make()
    user.update(actions=[User.password.set(make_password(PASSWORD, hasher="md5"))])
    user_password_rehash(user=user, password=PASSWORD)
    assert user.password.startswith("pbkdf2")
    assert user_get(user.user_id).password == user.password
    assert actions() == ["user.created"]


@pytest.mark.usefixtures("_today")
def test_a_password_that_was_changed_meanwhile_stays() -> None:
    user = make()
    user.password = make_password(PASSWORD, hasher="md5")
    user_password_rehash(user=user, password=PASSWORD)
    assert user_get(user.user_id).password == user.password
    assert not user.password.startswith("md5")


@pytest.mark.usefixtures("_today")
def test_a_deleted_user_does_not_come_back_with_a_renewed_hash() -> None:
    user = make()
    user.password = make_password(PASSWORD, hasher="md5")
    User(user.user_id).delete()
    with pytest.raises(NotFound):
        user_password_rehash(user=user, password=PASSWORD)
    assert user_get(user.user_id) is None


def test_a_taken_address_is_a_conflict_and_leaves_no_trace() -> None:
    make()
    with pytest.raises(Conflict) as refusal:
        make(email="ADA@example.com", name="Eve")
    assert refusal.value.code == "email_taken"
    assert len(list(User.scan())) == 1
    assert actions() == ["user.created"]


def test_of_eight_threads_that_claim_one_address_one_wins() -> None:
    def attempt(number: int) -> str:
        try:
            return make(name=f"Ada {number}").user_id
        except Conflict as conflict:
            return conflict.code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))
    assert results.count("email_taken") == 7
    winner = next(result for result in results if result != "email_taken")
    assert [user.user_id for user in User.scan()] == [winner]
    assert [claim.user_id for claim in AccountClaim.scan()] == [winner]
    assert actions() == ["user.created"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", ""),
        ("email", "no address"),
        ("email", "a" * 250 + "@example.com"),
        ("name", "  "),
        ("name", "x" * 101),
        ("name", "two\nlines"),
        ("role", "root"),
        ("password", "short"),
        ("password", "password1234"),
        ("password", "x" * 1025),
    ],
)
def test_what_cannot_be_a_person_is_refused_by_field(field: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        make(**{field: value})
    assert [error["field"] for error in refusal.value.errors] == [field]
    assert list(User.scan()) == []


def test_disabling_a_person_ends_their_sessions_and_is_recorded_once() -> None:
    user = make()
    user_disable(user_id=user.user_id, actor=SYSTEM)
    user_disable(user_id=user.user_id, actor=SYSTEM)
    stored = user_get(user.user_id)
    assert not stored.is_active
    assert stored.session_epoch == user.session_epoch + 1
    assert actions() == ["user.disabled", "user.created"]


def test_an_unknown_person_cannot_be_disabled() -> None:
    with pytest.raises(NotFound):
        user_disable(user_id="nobody", actor=SYSTEM)
    assert list(User.scan()) == []


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(ApplicationError) as refusal:
        act()
    return refusal.value.code


def acting(user: User) -> Actor:
    return Actor("user", user.user_id, user.name, frozenset(ROLES[user.role]))


def update(user: User, actor: Actor, **changes: Any) -> User:
    values = {"name": user.name, "role": user.role, "is_active": True, "revision": int(user.revision), **changes}
    return user_update(user_id=user.user_id, **values, actor=actor)


def stored(user: User) -> User:
    found = user_get(user.user_id)
    assert found is not None
    return found


# --- permissions ----------------------------------------------------------------------------------------------------

_WITHOUT = [
    OPERATOR,
    Actor("user", "01kaviewer000000000000000", "viewer", frozenset(ROLES["viewer"])),
    Actor("user", "01kaauditor00000000000000", "auditor", frozenset(ROLES["auditor"])),
    Actor("token", "t", "an admin's token for jobs", frozenset({"jobs.read", "tokens.manage"}), ADMIN.id),
    Actor("agent", "a", "build-1"),
]


@pytest.mark.parametrize("actor", _WITHOUT, ids=lambda actor: actor.name)
def test_every_service_for_users_asks_the_policies(actor: Actor) -> None:
    user = make()
    before = user.to_simple_dict()
    acts: list[Callable[[], object]] = [
        lambda: user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="admin", actor=actor),
        lambda: user_update(user_id=user.user_id, name="Eve", role="admin", is_active=False, revision=0, actor=actor),
        lambda: user_disable(user_id=user.user_id, actor=actor),
        lambda: user_password_set(user_id=user.user_id, password="another long one", revision=0, actor=actor),
        lambda: user_delete(user_id=user.user_id, actor=actor),
    ]
    assert [code_of(act) for act in acts] == ["forbidden"] * len(acts)
    assert [found.to_simple_dict() for found in User.scan()] == [before]
    assert actions() == ["user.created"]


def test_who_manages_accounts_may_use_every_service_for_users() -> None:
    user = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=ADMIN)
    update(user, ADMIN, name="Eva")
    user_password_set(user_id=user.user_id, password="another long one", revision=1, actor=ADMIN)
    user_disable(user_id=user.user_id, actor=ADMIN)
    user_delete(user_id=user.user_id, actor=ADMIN)
    assert actions() == ["user.deleted", "user.disabled", "user.password_set", "user.changed", "user.created"]


# --- revisions ------------------------------------------------------------------------------------------------------


def test_a_change_on_an_older_revision_is_refused() -> None:
    user = make()
    update(user, SYSTEM, name="Eva")
    assert code_of(lambda: update(user, SYSTEM, role="admin")) == "changed_meanwhile"
    late = lambda: user_password_set(user_id=user.user_id, password="x" * 20, revision=0, actor=SYSTEM)  # noqa: E731
    assert code_of(late) == "changed_meanwhile"
    assert (stored(user).name, stored(user).role, stored(user).password) == ("Eva", "viewer", user.password)
    assert int(stored(user).revision) == 1


def between_read_and_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once after a service has read the user, and before it writes."""
    done: list[str] = []

    def read(user_id: str) -> User | None:
        found = user_get(user_id)
        if not done:
            done.append(user_id)
            act()
        return found

    monkeypatch.setattr(users, "user_get", read)


@pytest.mark.parametrize(
    "change",
    [
        lambda user: update(user, SYSTEM, role="admin"),
        lambda user: user_password_set(user_id=user.user_id, password="x" * 20, revision=0, actor=SYSTEM),
    ],
    ids=["update", "password"],
)
def test_of_two_changes_at_once_the_later_write_is_refused(
    change: Callable[[User], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make()
    between_read_and_write(monkeypatch, lambda: update(user, SYSTEM, name="Eva"))
    assert code_of(lambda: change(user)) == "changed_meanwhile"
    assert (stored(user).name, stored(user).role, stored(user).password) == ("Eva", "viewer", user.password)


@pytest.mark.parametrize(
    ("end", "action"), [(user_disable, "user.disabled"), (user_delete, "user.deleted")], ids=["disable", "delete"]
)
def test_disabling_and_deleting_need_no_revision_and_are_repeated_on_the_next_one(
    end: Callable[..., None], action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make()
    between_read_and_write(monkeypatch, lambda: update(user, SYSTEM, name="Eva"))
    end(user_id=user.user_id, actor=SYSTEM)
    assert actions() == [action, "user.changed", "user.created"]


def test_a_user_who_is_deleted_meanwhile_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make()
    between_read_and_write(monkeypatch, lambda: user_delete(user_id=user.user_id, actor=SYSTEM))
    assert code_of(lambda: update(user, SYSTEM, name="Eva")) == "user_not_found"
    assert list(User.scan()) == []


# --- disabled and enabled again -------------------------------------------------------------------------------------


def test_a_user_who_is_enabled_again_signs_in_anew() -> None:
    """Their sessions of before stay ended, their address stays theirs, and their API tokens work again."""
    user = make()
    session = session_start(user=user, provider="password", device=None, address="")
    _, secret = api_token_create(user=user, name="ci", actor=SYSTEM)
    user_disable(user_id=user.user_id, actor=SYSTEM)
    update(stored(user), SYSTEM, is_active=True)
    back = stored(user)
    assert (back.is_active, int(back.session_epoch), int(back.revision)) == (True, 1, 2)
    with pytest.raises(NotAuthenticated):
        session_verify(session.token, use=False)
    assert user_by_email("ada@example.com").user_id == user.user_id
    assert code_of(lambda: make()) == "email_taken"
    assert session_verify(session_start(user=back, provider="password", device=None, address="").token, use=False)
    assert api_token_verify(secret).owner_id == user.user_id
    assert actions()[1:3] == ["user.changed", "user.disabled"]


def test_enabling_a_user_ends_no_session_and_disabling_by_a_change_does() -> None:
    user = make()
    assert int(update(user, SYSTEM, is_active=False).session_epoch) == 1
    assert int(update(stored(user), SYSTEM, is_active=True).session_epoch) == 1
    assert int(update(stored(user), SYSTEM, name="Eva").session_epoch) == 1


# --- deleting -------------------------------------------------------------------------------------------------------

EVE = ProviderIdentity("google", "2002", "eve@example.com", "Eve")


def invited_eve() -> User:
    invitation, _ = invitation_create(email="eve@example.com", role="viewer", actor=SYSTEM)
    return invitation_accept(invitation=invitation, identity=EVE)


def test_a_deleted_user_is_gone_at_once_and_their_trail_stays() -> None:
    eve = invited_eve()
    identity_link(actor=acting(eve), identity=ProviderIdentity("github", "77", "e@private.example", "eve"))
    session = session_start(user=eve, provider="google", device=None, address="")
    _, secret = api_token_create(user=eve, name="ci", actor=SYSTEM)
    user_delete(user_id=eve.user_id, actor=ADMIN)
    for kind in (User, AccountClaim, Identity, ApiToken):
        assert list(kind.scan()) == []
    with pytest.raises(NotAuthenticated):
        session_verify(session.token, use=False)
    with pytest.raises(NotAuthenticated):
        api_token_verify(secret)
    assert code_of(lambda: user_delete(user_id=eve.user_id, actor=ADMIN)) == "user_not_found"
    names = {record.action: record.actor_name for record in AuditRecord.scan(AuditRecord.actor_id == eve.user_id)}
    assert names["user.created"] == names["identity.linked"] == names["user.signed_in"] == "Eve"
    (deleted,) = AuditRecord.scan(AuditRecord.action == "user.deleted")
    assert deleted.detail == {"email": "eve@example.com", "name": "Eve", "role": "viewer"}


def test_the_address_and_the_identity_of_a_deleted_user_can_come_again() -> None:
    eve = invited_eve()
    user_delete(user_id=eve.user_id, actor=ADMIN)
    again = invited_eve()
    assert again.user_id != eve.user_id
    assert identity_sign_in(EVE).user_id == again.user_id


def test_an_older_users_identity_locks_nobody_out_after_the_user_is_deleted() -> None:
    """The rows of older users do not list their identities."""
    eve = invited_eve()
    eve.update(actions=[User.identities.remove()])
    user_delete(user_id=eve.user_id, actor=ADMIN)
    assert len(list(Identity.scan())) == 1
    again = invited_eve()
    assert identity_sign_in(EVE).user_id == again.user_id


def test_an_identity_that_is_linked_while_its_user_is_deleted_is_deleted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    eve = invited_eve()
    github = ProviderIdentity("github", "77", "e@private.example", "eve")
    between_read_and_write(monkeypatch, lambda: identity_link(actor=acting(eve), identity=github))
    user_delete(user_id=eve.user_id, actor=ADMIN)
    assert list(Identity.scan()) == []
    assert list(User.scan()) == []


def test_no_admin_deletes_themselves(tables: None) -> None:
    user = user_create(email="zoe@example.com", name="Zoe", role="admin", password=PASSWORD, actor=SYSTEM)
    zoe = Actor("user", user.user_id, user.name, frozenset(ROLES["admin"]))
    with pytest.raises(Conflict) as refusal:
        user_delete(user_id=user.user_id, actor=zoe)
    assert refusal.value.code == "own_account"
