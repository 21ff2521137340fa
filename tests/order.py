"""The order in which several test processes run the tests: some wait for processes of their own while others compute.

With `--dist worksteal` each process begins with an equal share of the list, and later takes from the ends of others.
So the tests that wait begin two of the shares, and what is left for the end, when there is no other work beside it, is
short. Tests of one file stay together, since they share what they have prepared.
"""

import os

import pytest

# Two groups of the same length in seconds, by the beginnings of the names of the tests.
WAITING = (
    ("tests/zappa/", "tests/browser/", "tests/endtoend/", "tests/local/", "tests/delivery/"),
    ("tests/agent/",),
)


def items_order(items: list[pytest.Item]) -> None:
    """Put the tests into the order for as many processes as there are."""
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first, second = ([item for item in items if item.nodeid.startswith(names)] for names in WAITING)
    # The life of a stage takes longer than any other test.
    first.sort(key=lambda item: item.get_closest_marker("deploy") is None)
    waiting = {*first, *second}
    others = [item for item in items if item not in waiting]
    middle = max(0, len(items) // shares * (shares // 2) - len(first))
    items[:] = first + others[:middle] + second + others[middle:]
