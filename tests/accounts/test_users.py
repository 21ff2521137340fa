"""People: who may be made, and that an address has one owner."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password

from apps.accounts.models import AccountClaim, User
from apps.accounts.selectors import user_by_email, user_get
from apps.accounts.services import user_create, user_disable, user_password_rehash
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from tests.conftest import PASSWORD

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
def _today(settings: Any) -> None:
    """What was hashed by MD5 is hashed by an older hasher now."""
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
