"""An active admin remains, whatever is changed at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from apps.accounts.models import User
from apps.accounts.policies import ROLES
from apps.accounts.services import user_delete, user_disable
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import ApplicationError, Conflict
from tests.accounts.test_users import acting, between_read_and_write, code_of, make, stored, update

pytestmark = pytest.mark.usefixtures("tables")


def admin(name: str) -> User:
    return make(email=f"{name.lower()}@example.com", name=name, role="admin")


_LEAVE: dict[str, Callable[[User, Actor], object]] = {
    "demoted": lambda user, actor: update(user, actor, role="operator"),
    "disabled by a change": lambda user, actor: update(user, actor, is_active=False),
    "disabled": lambda user, actor: user_disable(user_id=user.user_id, actor=actor),
    "deleted": lambda user, actor: user_delete(user_id=user.user_id, actor=actor),
}
LEAVE = pytest.mark.parametrize("leave", _LEAVE.values(), ids=list(_LEAVE))


def admins() -> list[str]:
    return sorted(user.name for user in User.scan() if user.role == "admin" and user.is_active)


@LEAVE
def test_the_last_admin_cannot_be_demoted_or_disabled(leave: Callable[[User, Actor], object]) -> None:
    ada, eve = admin("Ada"), admin("Eve")
    user_disable(user_id=eve.user_id, actor=SYSTEM)
    make(email="olga@example.com", role="operator")
    with pytest.raises(Conflict) as refusal:
        leave(ada, SYSTEM)
    assert refusal.value.code == "last_admin"
    assert "Make another user an admin first." in refusal.value.message
    assert admins() == ["Ada"]
    assert int(stored(ada).revision) == 0
    # Whom the index lists counts only if the user's own row says the same.
    update(stored(eve), SYSTEM, is_active=True)
    leave(ada, SYSTEM)
    assert admins() == ["Eve"]


@LEAVE
@pytest.mark.parametrize("first", ["Ada", "Eve"])
def test_of_two_admins_who_lock_each_other_out_at_once_one_remains_in_either_order(
    leave: Callable[[User, Actor], object], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read that the other is an admin when the first one writes."""
    ada, eve = admin("Ada"), admin("Eve")
    quick, slow = (ada, eve) if first == "Ada" else (eve, ada)
    between_read_and_write(monkeypatch, lambda: leave(slow, acting(quick)))
    assert code_of(lambda: leave(quick, acting(slow))) == "last_admin"
    assert admins() == [first]


@pytest.mark.parametrize("end", [user_disable, user_delete], ids=["disable", "delete"])
def test_who_becomes_the_last_admin_meanwhile_is_kept(
    end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, eve = admin("Ada"), make(email="eve@example.com", name="Eve")

    def take_over() -> None:
        update(eve, SYSTEM, role="admin")
        update(ada, SYSTEM, role="viewer")

    between_read_and_write(monkeypatch, take_over)
    assert code_of(lambda: end(user_id=eve.user_id, actor=SYSTEM)) == "last_admin"
    assert admins() == ["Eve"]


def test_of_three_admins_who_demote_each_other_in_a_circle_at_once_one_remains() -> None:
    people = [admin(name) for name in ("Ada", "Eve", "Zoe")]

    def demote(number: int) -> str:
        try:
            update(people[number], acting(people[number - 1]), role="viewer")
        except ApplicationError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(3) as pool:
        results = sorted(pool.map(demote, range(3)))
    assert len(admins()) == results.count("last_admin") + results.count("unavailable") >= 1


def test_an_admin_is_demoted_by_another_without_asking_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.accounts.services import last_admin

    monkeypatch.setattr(last_admin, "users_active", lambda _roles: pytest.fail("not needed"))
    ada, eve = admin("Ada"), admin("Eve")
    update(eve, acting(ada), role="viewer")
    assert admins() == ["Ada"]


def test_an_admin_who_keeps_the_role_needs_no_other() -> None:
    ada = admin("Ada")
    assert update(ada, SYSTEM, name="Countess").name == "Countess"


def test_nobody_disables_demotes_or_deletes_themselves_also_by_an_api_token() -> None:
    ada = admin("Ada")
    admin("Eve")
    own = [acting(ada), Actor("token", "t", "ci", frozenset(ROLES["admin"]), ada.user_id)]
    for actor in own:
        assert [code_of(partial(leave, ada, actor)) for leave in _LEAVE.values()] == ["own_account"] * len(_LEAVE)
    assert admins() == ["Ada", "Eve"]


def test_a_change_that_comes_too_late_is_not_taken_for_one_of_the_last_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    ada, eve = admin("Ada"), admin("Eve")
    between_read_and_write(monkeypatch, lambda: update(eve, SYSTEM, name="Eva"))
    assert code_of(lambda: update(eve, acting(ada), role="viewer")) == "changed_meanwhile"
    assert admins() == ["Ada", "Eva"]
