"""All-or-nothing writes. Every change of two items that belong together uses a `Transaction`."""

from collections.abc import Sequence
from typing import Any, Literal

from pynamodb.exceptions import TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from controlplane.lib.errors import TooLarge, Unavailable
from controlplane.nosql.connection import CONFLICT_ATTEMPTS, pause_before_retry, shared_connection
from controlplane.nosql.record import Record

_Kind = Literal["check", "delete", "put", "update"]
# PynamoDB sends the operations in this order of kinds, and DynamoDB's reasons come back in the order sent.
_ORDER: tuple[_Kind, ...] = ("check", "delete", "put", "update")
# Part of DynamoDB's messages about an item of more than 400 KB, as a put and as an update have it.
_TOO_LARGE = "exceeded the maximum allowed size"


class TransactionFailed(Exception):
    """At least one condition failed, so nothing was written.

    `failed` maps the label of each operation whose condition failed to the current record (None: no item).
    """

    def __init__(self, failed: dict[str, Record | None]) -> None:
        super().__init__(f"conditions failed: {', '.join(failed)}")
        self.failed = failed


class TransactionConflicted(Unavailable):
    """All attempts conflicted with other writers of the same items; nothing was written."""

    def __init__(self, conflicted: Sequence[str]) -> None:
        super().__init__("Too many requests are changing the same data. Try again.")
        self.conflicted = list(conflicted)


class ItemTooLarge(TooLarge):
    """DynamoDB refused an item of more than 400 KB; nothing was written. `labels` names the operations."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(f"A record would exceed the database's limit of 400 KB: {', '.join(labels)}. Send less.")
        self.labels = list(labels)


class Transaction:
    """Collect up to 100 operations on different items, then `commit` them together.

    Each operation has a label by which `TransactionFailed` names it. A commit may be repeated safely: botocore gives
    each request an idempotency token, and a failed attempt has written nothing.
    """

    def __init__(self) -> None:
        self._operations: dict[_Kind, list[tuple[str, type[Record], dict[str, Any]]]] = {kind: [] for kind in _ORDER}

    def put(self, label: str, record: Record, condition: Condition | None = None) -> None:
        """Write the whole record. Without `condition`, only if no item has its key."""
        if condition is None:
            condition = record.key_attribute().does_not_exist()
        self._add("put", label, record, condition=condition)

    def update(
        self, label: str, record: Record, *, actions: Sequence[Action], condition: Condition | None = None
    ) -> None:
        """Change attributes of the item with `record`'s key; other attributes of `record` are ignored."""
        self._add("update", label, record, actions=list(actions), condition=condition)

    def delete(self, label: str, record: Record, condition: Condition | None = None) -> None:
        """Delete the item with `record`'s key. Without `condition`, only if it exists."""
        if condition is None:
            condition = record.key_attribute().exists()
        self._add("delete", label, record, condition=condition)

    def check(self, label: str, record: Record, condition: Condition) -> None:
        """Commit only if `condition` is true for the item with `record`'s key."""
        self._add("check", label, record, condition=condition)

    def has(self, label: str) -> bool:
        """Whether it has an operation with this label."""
        return any(label == known for operations in self._operations.values() for known, _, _ in operations)

    def _add(self, kind: _Kind, label: str, record: Record, **arguments: Any) -> None:
        self._operations[kind].append((label, type(record), {"model": record, **arguments}))

    def commit(self, *, attempts: int = CONFLICT_ATTEMPTS) -> None:
        """Write everything or nothing, with up to `attempts` attempts while it conflicts with other writers.

        Raises TransactionFailed when a condition fails, TransactionConflicted when all attempts conflict, ItemTooLarge
        when an item would exceed DynamoDB's limit, Unavailable when DynamoDB does not answer. In the last case DynamoDB
        may have written: read before you act on it.
        """
        sent = [(label, kind) for order in _ORDER for label, kind, _ in self._operations[order]]
        for attempt in range(attempts):
            try:
                self._send()
                return
            except TransactWriteError as error:
                reasons = error.cancellation_reasons
                _size_check(error, [label for label, _ in sent])
                if not reasons:
                    raise
                codes = [reason.code if reason else "None" for reason in reasons]
                if "ConditionalCheckFailed" in codes:
                    raise TransactionFailed(
                        {
                            label: _record(kind, reason.raw_item)
                            for (label, kind), reason in zip(sent, reasons, strict=True)
                            if reason and reason.code == "ConditionalCheckFailed"
                        }
                    ) from error
                if not {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}.intersection(codes):
                    raise
                if attempt == attempts - 1:
                    raise TransactionConflicted(
                        [label for (label, _), code in zip(sent, codes, strict=True) if code != "None"]
                    ) from error
            pause_before_retry(attempt)

    def _send(self) -> None:
        """Make one attempt. botocore gives it a new token, since a cancelled request's token must not be used again."""
        requests = {
            kind: [_request(kind, record_kind, arguments) for _, record_kind, arguments in operations]
            for kind, operations in self._operations.items()
        }
        shared_connection().transact_write_items(
            condition_check_items=requests["check"],
            delete_items=requests["delete"],
            put_items=requests["put"],
            update_items=requests["update"],
        )


def _size_check(error: TransactWriteError, sent: Sequence[str]) -> None:
    """Raises ItemTooLarge if DynamoDB refused the transaction, of operations with these labels, for an item's size."""
    reasons = error.cancellation_reasons
    large = [
        label
        for label, reason in zip(sent, reasons, strict=False)
        if reason and reason.code == "ValidationError" and _TOO_LARGE in (reason.message or "")
    ]
    if large or (not reasons and _TOO_LARGE in (error.cause_response_message or "")):
        # Without reasons, DynamoDB does not say which item it is.
        raise ItemTooLarge(large or sent) from error


def _request(kind: _Kind, record_kind: type[Record], arguments: dict[str, Any]) -> dict[str, Any]:
    """The operation in botocore's form. If its condition fails, DynamoDB returns the current item."""
    record: Record = arguments["model"]
    condition = arguments.get("condition")
    if kind == "put":
        request = record.get_save_kwargs_from_instance(condition=condition)
    elif kind == "delete":
        request = record.get_delete_kwargs_from_instance(condition=condition)
    elif kind == "update":
        request = record.get_update_kwargs_from_instance(actions=arguments["actions"], condition=condition)
    else:
        hash_key, range_key = record._get_hash_range_key_serialized_values()
        request = record_kind._get_connection().get_operation_kwargs(hash_key, range_key=range_key, condition=condition)
    if condition is not None:
        request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return request


def _record(kind: type[Record], item: dict[str, Any] | None) -> Record | None:
    return kind.from_raw_data(item) if item else None
