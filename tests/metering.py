"""Counting what the code under test asks of DynamoDB, as the design's budgets are written: calls and write units."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from controlplane.nosql.connection import shared_connection

_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


@dataclass
class Metering:
    """What was counted. `operations` names the calls in their order; `write_units` are the emulator's figures.

    `consistent` are how many of the calls ask for a consistent read.
    """

    operations: list[str] = field(default_factory=list)
    write_units: float = 0.0
    consistent: int = 0

    @property
    def calls(self) -> int:
        return len(self.operations)


@contextmanager
def dynamodb_calls() -> Iterator[Metering]:
    """Count the calls that all threads of this process make inside the block.

    Requires the fixture `emulator` (or `tables`, `server`). Retries inside botocore count as one call.
    """
    events = shared_connection().client.meta.events
    metering = Metering()
    lock = threading.Lock()

    def before(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name in _WRITES:
            params["ReturnConsumedCapacity"] = "TOTAL"
        with lock:
            metering.consistent += bool(params.get("ConsistentRead"))

    def after(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity", [])
        with lock:
            metering.operations.append(model.name)
            if model.name in _WRITES:
                for table in consumed if isinstance(consumed, list) else [consumed]:
                    metering.write_units += table.get("WriteCapacityUnits", table.get("CapacityUnits", 0.0))

    # Names of their own, so that one block's end leaves another's handlers alone.
    events.register("provide-client-params.dynamodb.*", before, unique_id=f"metering-before-{id(metering)}")
    events.register("after-call.dynamodb.*", after, unique_id=f"metering-after-{id(metering)}")
    try:
        yield metering
    finally:
        events.unregister("provide-client-params.dynamodb.*", unique_id=f"metering-before-{id(metering)}")
        events.unregister("after-call.dynamodb.*", unique_id=f"metering-after-{id(metering)}")
