"""An identity signs in one user, and the one of a deleted user is free again."""

import pytest

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import Identity
from apps.accounts.services.identity_rows import identity_add, identity_name
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed
from tests.conftest import ada_create

GOOGLE = ProviderIdentity("google", "2002", "eve@example.com", "Eve")


def adding(user_id: str) -> Transaction:
    tx = Transaction()
    identity_add(tx, GOOGLE, user_id=user_id)
    return tx


@pytest.mark.usefixtures("tables")
def test_an_identity_of_a_user_is_not_given_to_another_one() -> None:
    ada = ada_create()
    adding(ada.user_id).commit()
    with pytest.raises(Conflict) as refusal:
        adding("another")
    assert refusal.value.code == "identity_taken"
    assert "This Google account signs in another user" in refusal.value.message
    row = Identity.find("google#2002")
    assert row is not None
    assert (row.user_id, row.email, row.provider) == (ada.user_id, "eve@example.com", "google")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("left_behind", [False, True])
def test_of_two_who_add_an_identity_at_once_one_wins(left_behind: bool) -> None:
    """Also if it is left behind by a deleted user: both have read that."""
    if left_behind:
        adding("deleted").commit()
    first, second = adding("first"), adding("second")
    second.commit()
    with pytest.raises(TransactionFailed) as failure:
        first.commit()
    assert set(failure.value.failed) == {"identity"}
    assert [row.user_id for row in Identity.scan()] == ["second"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Eve", "Eve"),
        (" Eve\x00\n Ivy ", "Eve Ivy"),
        ("", "eve"),
        ("\x00", "eve"),
        ("x" * 500, "x" * 100),
        ("x" * 99 + " y", "x" * 99),
    ],
)
def test_any_name_from_a_provider_is_made_a_valid_one(given: str, name: str) -> None:
    identity = ProviderIdentity("google", "1", None, given)
    assert identity_name(identity, "eve@example.com") == name


def test_a_long_address_without_a_name_is_cut() -> None:
    assert identity_name(ProviderIdentity("google", "1", None, ""), f"{'a' * 120}@example.com") == "a" * 100
