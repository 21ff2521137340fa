"""Two acts on the same records, in each order that one process and another can bring about.

    for order in every_order():
        job_id = running(agent)
        cancelled, finished = order.race(partial(job_cancel, …), partial(attempt_finish, …))

In each turn one of the two happens as a whole between two calls to DynamoDB of the other: before its first, between its
reading and its writing, and so on to its end. Then the roles change. So a test meets each order, and each once.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from controlplane.lib.errors import ApplicationError
from controlplane.nosql.connection import shared_connection

Act = Callable[[], object]


@dataclass
class Order:
    """One order of two acts: the second within the first, or `swapped`, before the `call`-th call, from 0."""

    swapped: bool
    call: int
    hit: bool = field(default=False, init=False)

    def race(self, first: Act, second: Act) -> tuple[object, object]:
        """What each returned, or the code of the error that it raised."""
        outer, inner = (second, first) if self.swapped else (first, second)
        inside: list[object] = []
        with before_call(lambda: inside.append(_outcome_of(inner)), call=self.call):
            outside = _outcome_of(outer)
        self.hit = bool(inside)
        if not inside:
            inside.append(_outcome_of(inner))
        return (inside[0], outside) if self.swapped else (outside, inside[0])


def every_order() -> Iterator[Order]:
    """Each order of two acts. Each must be used for one `race`, with records of its own."""
    for swapped in (False, True):
        for call in itertools.count():
            order = Order(swapped, call)
            yield order
            if not order.hit:
                # The outer act makes fewer calls: the inner one has come after it.
                break


@contextmanager
def before_call(act: Act, *, call: int = 0, operations: frozenset[str] | None = None) -> Iterator[None]:
    """Do `act` just before the block's `call`-th call to DynamoDB, from 0; `operations` are those that count."""
    events = shared_connection().client.meta.events
    name, marker = "before-call.dynamodb.*", f"interleaving-{id(act)}"
    counted = itertools.count()

    def before(model: Any, **_: Any) -> None:
        if (operations is None or model.name in operations) and next(counted) == call:
            events.unregister(name, unique_id=marker)
            act()

    events.register(name, before, unique_id=marker)
    try:
        yield
    finally:
        events.unregister(name, unique_id=marker)


def _outcome_of(act: Act) -> object:
    try:
        return act()
    except ApplicationError as error:
        return error.code
