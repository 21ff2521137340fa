"""Transactions: all or nothing, which condition failed, and what is tried again."""

from typing import Any

import pytest
from pynamodb.exceptions import TransactWriteError

from apps.accounts.models import AccountClaim
from apps.jobs.models import QueueEntry, QueueSet
from controlplane.lib.errors import Unavailable
from controlplane.nosql.connection import CONFLICT_ATTEMPTS
from controlplane.nosql.transaction import ItemTooLarge, Transaction, TransactionConflicted, TransactionFailed
from tests.nosql.answers import answered, cancelled

pytestmark = pytest.mark.usefixtures("tables")


def claim(name: str, user_id: str = "ada") -> AccountClaim:
    return AccountClaim(name, user_id=user_id)


def stored() -> dict[str, str]:
    return {found.claim: found.user_id for found in AccountClaim.scan()}


def failed(tx: Transaction) -> dict[str, Any]:
    with pytest.raises(TransactionFailed) as refused:
        tx.commit()
    assert str(refused.value) == f"conditions failed: {', '.join(refused.value.failed)}"
    return refused.value.failed


# --- operations -------------------------------------------------------------------------------------------------------


def test_all_operations_are_written_together() -> None:
    for name in ("changed", "deleted", "checked"):
        claim(name).save()
    tx = Transaction()
    tx.update("update", claim("changed"), actions=[AccountClaim.user_id.set("eve")])
    tx.put("put", claim("new"))
    tx.delete("delete", claim("deleted"))
    tx.check("check", claim("checked"), AccountClaim.user_id == "ada")
    with answered() as sent:
        tx.commit()
    assert stored() == {"changed": "eve", "new": "ada", "checked": "ada"}
    assert [next(iter(item)) for item in sent[0]["TransactItems"]] == ["ConditionCheck", "Delete", "Put", "Update"]
    assert len(sent) == 1


def test_if_one_condition_fails_nothing_is_written() -> None:
    claim("taken", "eve").save()
    tx = Transaction()
    tx.put("first", claim("new"))
    tx.update("second", claim("made"), actions=[AccountClaim.user_id.set("ada")])
    tx.put("third", claim("taken"))
    assert list(failed(tx)) == ["third"]
    assert stored() == {"taken": "eve"}


def test_a_put_is_of_a_new_item_unless_it_says_otherwise() -> None:
    claim("taken", "eve").save()
    tx = Transaction()
    tx.put("claim", claim("taken"))
    assert failed(tx)["claim"].user_id == "eve"
    tx = Transaction()
    tx.put("claim", claim("taken"), AccountClaim.user_id == "bob")
    assert failed(tx)["claim"].user_id == "eve"
    tx = Transaction()
    tx.put("claim", claim("taken"), AccountClaim.user_id == "eve")
    tx.commit()
    assert stored() == {"taken": "ada"}


def test_a_delete_is_of_an_item_that_exists_unless_it_says_otherwise() -> None:
    tx = Transaction()
    tx.delete("claim", claim("gone"))
    assert failed(tx) == {"claim": None}
    tx = Transaction()
    tx.delete("claim", claim("gone"), AccountClaim.claim.does_not_exist())
    tx.commit()
    claim("taken").save()
    tx = Transaction()
    tx.delete("claim", claim("taken"), AccountClaim.user_id == "eve")
    assert failed(tx)["claim"].user_id == "ada"
    tx = Transaction()
    tx.delete("claim", claim("taken"))
    tx.commit()
    assert stored() == {}


def test_an_update_changes_only_what_it_names_and_only_under_its_condition() -> None:
    QueueEntry("set", "1", attempt=1, since="then").save()
    tx = Transaction()
    tx.update("entry", QueueEntry("set", "1", since="ignored"), actions=[QueueEntry.attempt.set(2)])
    tx.commit()
    tx = Transaction()
    tx.update("entry", QueueEntry("set", "1"), actions=[QueueEntry.attempt.set(3)], condition=QueueEntry.attempt == 1)
    current = failed(tx)["entry"]
    assert (type(current), current.attempt, current.since) == (QueueEntry, 2, "then")


def test_a_check_writes_nothing_and_stops_all() -> None:
    tx = Transaction()
    tx.check("check", claim("missing"), AccountClaim.claim.exists())
    tx.put("put", claim("new"))
    assert failed(tx) == {"check": None}
    assert stored() == {}


def test_each_failed_operation_is_named_with_its_own_record_whatever_the_order_they_were_added_in() -> None:
    claim("taken", "eve").save()
    QueueEntry("set", "1", attempt=7).save()
    QueueSet("sets", "2", labels=["gpu"]).save()
    tx = Transaction()
    tx.update("entry", QueueEntry("set", "1"), actions=[QueueEntry.attempt.add(1)], condition=QueueEntry.attempt == 1)
    tx.put("fine", claim("new"))
    tx.put("claim", claim("taken"))
    tx.delete("set", QueueSet("sets", "2"), QueueSet.first == "x")
    tx.check("nothing", claim("absent"), AccountClaim.claim.exists())
    found = failed(tx)
    assert list(found) == ["nothing", "set", "claim", "entry"]
    assert found["nothing"] is None
    assert (type(found["set"]), found["set"].labels) == (QueueSet, ["gpu"])
    assert (type(found["claim"]), found["claim"].user_id) == (AccountClaim, "eve")
    assert (type(found["entry"]), found["entry"].attempt) == (QueueEntry, 7)


def test_an_update_without_a_condition_asks_for_no_item_back() -> None:
    tx = Transaction()
    tx.update("claim", claim("made"), actions=[AccountClaim.user_id.set("ada")])
    tx.put("other", claim("other"))
    with answered() as sent:
        tx.commit()
    put, update = (next(iter(item.values())) for item in sent[0]["TransactItems"])
    assert put["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert "ReturnValuesOnConditionCheckFailure" not in update


# --- conflicts --------------------------------------------------------------------------------------------------------


def two() -> Transaction:
    tx = Transaction()
    tx.update("second", claim("b"), actions=[AccountClaim.user_id.set("ada")])
    tx.put("first", claim("a"))
    return tx


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_conflict_is_tried_again_under_another_token(code: str) -> None:
    with answered(*[cancelled(code, None)] * (CONFLICT_ATTEMPTS - 1)) as sent:
        two().commit()
    assert stored() == {"a": "ada", "b": "ada"}
    assert len(sent) == len({body["ClientRequestToken"] for body in sent}) == CONFLICT_ATTEMPTS


@pytest.mark.parametrize(
    ("codes", "labels"),
    [(("TransactionConflict", None), ["first"]), ((None, "TransactionConflict"), ["second"])],
)
def test_after_all_attempts_the_conflict_names_what_was_locked(codes: Any, labels: list[str]) -> None:
    with (
        answered(*[cancelled(*codes)] * (CONFLICT_ATTEMPTS + 1)) as sent,
        pytest.raises(TransactionConflicted) as refused,
    ):
        two().commit()
    assert len(sent) == CONFLICT_ATTEMPTS
    assert refused.value.conflicted == labels
    assert (refused.value.status, isinstance(refused.value, Unavailable)) == (503, True)
    assert refused.value.message == "Too many requests are changing the same data. Try again."
    assert stored() == {}


def test_the_number_of_attempts_can_be_chosen() -> None:
    with answered(*[cancelled("TransactionConflict", None)] * 5) as sent, pytest.raises(TransactionConflicted):
        two().commit(attempts=2)
    assert len(sent) == 2


def test_there_is_a_pause_before_each_further_attempt_and_none_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []
    monkeypatch.setattr("controlplane.nosql.transaction.pause_before_retry", pauses.append)
    with answered(*[cancelled("TransactionConflict", None)] * 5), pytest.raises(TransactionConflicted):
        two().commit(attempts=3)
    assert pauses == [0, 1]
    two().commit()
    assert pauses == [0, 1]


def test_a_failed_condition_beside_a_conflict_is_not_tried_again() -> None:
    with (
        answered(cancelled("TransactionConflict", "ConditionalCheckFailed")) as sent,
        pytest.raises(TransactionFailed) as refused,
    ):
        two().commit()
    assert (list(refused.value.failed), len(sent)) == (["second"], 1)


@pytest.mark.parametrize("codes", [("ValidationError", None), ("ItemCollectionSizeLimitExceeded", None)])
def test_any_other_reason_is_an_error_of_ours(codes: Any) -> None:
    with answered(cancelled(*codes)) as sent, pytest.raises(TransactWriteError):
        two().commit()
    assert len(sent) == 1


@pytest.mark.parametrize("code", ["ConditionalCheckFailed", "TransactionConflict"])
def test_reasons_that_fit_no_operation_are_not_guessed(code: str) -> None:
    with answered(*[cancelled(code)] * 3), pytest.raises(ValueError, match="zip"):
        two().commit(attempts=2)


def test_an_error_without_reasons_is_an_error_of_ours() -> None:
    with answered(("ValidationException", {})) as sent, pytest.raises(TransactWriteError):
        two().commit()
    assert len(sent) == 1


def test_an_outage_is_unavailable_and_not_a_failed_condition() -> None:
    with answered(*[("InternalServerError", {})] * 10, status=500), pytest.raises(Unavailable) as refused:
        two().commit()
    assert not isinstance(refused.value, TransactionConflicted)


# --- items that are too large -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["put", "update"])
def test_a_transaction_says_which_item_would_be_too_large(kind: str) -> None:
    entry = QueueEntry("set", "050", attempt=1, since="x" * 409_600)
    transaction = Transaction()
    transaction.check("other", QueueEntry("set", "051"), QueueEntry.attempt.does_not_exist())
    if kind == "put":
        transaction.put("large", entry)
    else:
        transaction.update("large", entry, actions=[QueueEntry.since.set(entry.since)])
    with pytest.raises(ItemTooLarge) as refusal:
        transaction.commit()
    assert "large" in refusal.value.labels
    assert QueueEntry.count("set") == 0


SIZE = "Item size to update has exceeded the maximum allowed size"


def test_only_the_items_that_are_too_large_are_named() -> None:
    answer = cancelled(None, "ValidationError", message=SIZE)
    with answered(answer) as sent, pytest.raises(ItemTooLarge) as refused:
        two().commit()
    assert (refused.value.labels, refused.value.status, len(sent)) == (["second"], 413, 1)
    assert "second" in refused.value.message


def test_without_reasons_any_item_may_be_too_large() -> None:
    with answered(("ValidationException", {"message": SIZE})), pytest.raises(ItemTooLarge) as refused:
        two().commit()
    assert refused.value.labels == ["first", "second"]


def test_a_conflict_whose_message_speaks_of_a_size_is_a_conflict() -> None:
    with answered(cancelled(None, "TransactionConflict", message=SIZE)):
        two().commit()
    assert stored() == {"a": "ada", "b": "ada"}
