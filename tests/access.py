"""The function's rights in the tests: what `controlplane.infrastructure.access` does not say, DynamoDB refuses.

The emulator checks no rights, so this refuses calls where botocore sends them. It concerns the product's code only: a
test may write and read what it likes.
"""

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from controlplane.infrastructure.access import TABLE_ACCESS, Access
from controlplane.nosql.connection import shared_connection

_ROOT = f"{settings.BASE_DIR}/"
# Between a caller and DynamoDB.
_BETWEEN = ("controlplane/nosql/", "tests/access.py", "tests/metering.py", "tests/faults/injection.py", ".venv/")
# Commands of deployment, which run with a person's rights.
_MANAGEMENT = frozenset({"CreateTable", "DescribeTable", "DescribeTimeToLive", "UpdateTable", "UpdateTimeToLive"})
_PARTS = {"ConditionCheck": "ConditionCheckItem", "Delete": "DeleteItem", "Put": "PutItem", "Update": "UpdateItem"}

# Table, action of IAM, index (None: the table itself).
Use = tuple[str, str, str | None]

_recorders: list[set[Use]] = []
_lock = threading.Lock()


def access_enforce() -> None:
    """From now on refuse what the function's role would not allow. Once in a process, when the emulator runs."""
    events = shared_connection().client.meta.events
    events.register("provide-client-params.dynamodb.*", _check, unique_id="tests-access")


@contextmanager
def access_recorded() -> Iterator[set[Use]]:
    """What the product's code uses in this block, in all threads."""
    used: set[Use] = set()
    with _lock:
        _recorders.append(used)
    try:
        yield used
    finally:
        with _lock:
            _recorders.remove(used)


def _check(params: dict[str, Any], model: Any, **_: Any) -> None:
    if model.name in _MANAGEMENT or _is_a_tests_own():
        return
    _overwriting_refuse(model.name, params)
    uses = set(_uses(model.name, params))
    with _lock:
        for used in _recorders:
            used |= uses
    for table, action, index in uses:
        access = TABLE_ACCESS.get(table, Access(frozenset()))
        allowed = action == "Query" and index in access.indexes if index else action in access.actions
        if not allowed:
            where = f"{table}/{index}" if index else table
            raise AssertionError(
                f"The function's role does not allow {action} on {where}: see controlplane/infrastructure/access.py"
            )


def _overwriting_refuse(operation: str, params: dict[str, Any]) -> None:
    """Refuse to put an audit event or a seal without the condition that there is none with its key."""
    puts = [params] if operation == "PutItem" else []
    if operation == "TransactWriteItems":
        puts = [item["Put"] for item in params["TransactItems"] if "Put" in item]
    for put in puts:
        if _table(put["TableName"]).startswith("audit"):
            condition = put.get("ConditionExpression", "")
            if not condition.startswith(("attribute_not_exists", "(attribute_not_exists")):
                raise AssertionError(
                    f"A put of the audit trail could write over an item: its condition is {condition!r}."
                )


def _uses(operation: str, params: dict[str, Any]) -> Iterator[Use]:
    if operation == "TransactWriteItems":
        for item in params["TransactItems"]:
            for part, arguments in item.items():
                yield _table(arguments["TableName"]), _PARTS[part], None
    elif operation in ("BatchGetItem", "BatchWriteItem"):
        for table in params["RequestItems"]:
            yield _table(table), operation, None
    else:
        yield _table(params["TableName"]), operation, params.get("IndexName")


def _table(full_name: str) -> str:
    return full_name.removeprefix("hybrid-ci-cd-").removesuffix(f"-{settings.STAGE}")


def _is_a_tests_own() -> bool:
    """Whether a test, and not the product, makes the call: which comes first, up the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        decided = _is_tests(frame.f_code.co_filename)
        if decided is not None:
            return decided
        frame = frame.f_back
    return False


@functools.cache
def _is_tests(file: str) -> bool | None:
    """Whether a file of ours is one of the tests. None for a library's, and for what is only between."""
    part = file.removeprefix(_ROOT)
    return None if part == file or part.startswith(_BETWEEN) else part.startswith("tests/")
