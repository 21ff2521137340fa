"""Orders that chance gives too seldom: something else happens between a service's read and its write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def before_first(owner: type, method: str, act: Callable[[], object], *, nth: int = 1) -> Iterator[list[int]]:
    """`act` happens just before the first call of the method, or the `nth`. Yields a list that grows with each call.

    `act` may call the method itself; these calls are not counted.
    """
    calls: list[int] = []
    original = getattr(owner, method)

    def interrupted(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == nth:
            with patch.object(owner, method, original):
                act()
        return original(self, *args, **options)

    with patch.object(owner, method, interrupted):
        yield calls
