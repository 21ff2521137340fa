"""A second try for tests that wait for processes of their own.

They start agents, browsers, programs, databases, an emulated AWS or whole stages, and other work on the machine can
delay these. Of some thousand such tests one that fails by chance must not refuse a change. The first failure is
printed with its traceback, a whole run has three second tries at most, and in the nightly run a test that needs one
fails. Tests of the control plane's code have none: there a rare failure is a race in the code.
"""

import pytest

# The beginnings of the names of the tests.
WITH_PROCESSES = (
    "tests/agent/",
    "tests/browser/",
    "tests/cli/",
    "tests/controlplane/",
    "tests/delivery/",
    "tests/endtoend/",
    "tests/faults/",
    "tests/infrastructure/",
    "tests/local/",
    "tests/secrets/test_rotation_faults.py",
    "tests/secrets/test_rotation_systems.py",
    "tests/zappa/",
)


def second_tries_give(items: list[pytest.Item]) -> None:
    """Mark the tests that run once more when they fail."""
    for item in items:
        # KMS and S3 are another process, too.
        if item.nodeid.startswith(WITH_PROCESSES) or "cloud_services" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))
