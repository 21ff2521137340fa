"""Adding to the outbox: one row more in the transaction of the act."""

import pytest

from apps.notifications.services import outbox_add
from apps.notifications.states import Topic
from controlplane.nosql.transaction import Transaction
from tests.metering import dynamodb_calls
from tests.notifications.test_outbox_work import add

pytestmark = pytest.mark.usefixtures("tables")


def test_an_item_is_one_row_of_one_write_more_in_the_transaction_of_its_act() -> None:
    with dynamodb_calls() as metering:
        add("key", 1)
    assert (metering.operations, metering.write_units) == (["TransactWriteItems"], 2)


def test_what_is_longer_than_an_item_may_be_is_an_error() -> None:
    for key, fact in (("key", {"text": "é" * 1024}), ("k" * 513, {}), ("", {})):
        with pytest.raises(ValueError, match="the item run"):
            outbox_add(Transaction(), topic=Topic.RUN, key=key, fact=fact)
