"""A second try for tests that wait for processes of their own.

They start agents, browsers, databases or whole stages, and other work on the machine can delay these. Of some
thousand such tests one that fails by chance must not refuse a change. The first failure is printed with its
traceback, a whole run has three second tries at most, and in the nightly run a test that needs one fails. Tests of
the control plane's code have none: there a rare failure is a race in the code.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WITH_PROCESSES = tuple(
    TESTS / name
    for name in (
        "agent",
        "browser",
        "delivery",
        "endtoend",
        "faults",
        "local",
        "secrets/test_rotation_faults.py",
        "secrets/test_rotation_systems.py",
        "zappa",
    )
)


def second_tries_give(items: list[pytest.Item]) -> None:
    """Mark the tests that run once more when they fail."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in WITH_PROCESSES):
            item.add_marker(pytest.mark.flaky(reruns=1))
