"""Runs Django's own tests of sessions against our two stores, in a process of its own, since they need other apps.

    python -m tests.accounts.djangos_own FOLDER URL

FOLDER contains the package ``sessions_tests`` of Django's sources, URL is the emulator's.
"""

import os
import sys
import unittest
from importlib import import_module
from typing import Any

# Reads Django's SQL table of sessions to see what was saved, and there is none.
NOT_OURS = {"SessionMiddlewareTests": {"test_empty_session_saved"}}


def main(folder: str, url: str) -> int:
    import django

    sys.path.insert(0, folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.accounts.djangos_own_settings"
    django.setup()
    os.environ["AWS_ENDPOINT_URL"] = url
    suite = unittest.TestSuite()
    for case in _cases():
        names = unittest.defaultTestLoader.getTestCaseNames(case)
        suite.addTests(case(name) for name in names if name not in NOT_OURS.get(case.theirs, ()))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    print(f"{result.testsRun} tests of Django's")
    return 0 if result.wasSuccessful() and not result.skipped else 1


def _cases() -> list[Any]:
    from django.test import SimpleTestCase, override_settings

    from apps.accounts.session_store import SessionStore

    theirs: Any = import_module("sessions_tests.tests")
    # One of the tests of the middleware makes a session by this name.
    theirs.DatabaseSession = SessionStore
    # Their TestCase brings an SQL transaction, which these tests do not need.
    middleware = {
        name: value for name, value in vars(theirs.SessionMiddlewareTests).items() if not name.startswith("__")
    }
    cases = []
    for store in ("dynamodb", "memory"):
        for name, bases, members in (
            ("SessionTestsMixin", (theirs.SessionTestsMixin, SimpleTestCase), {"backend": SessionStore}),
            ("SessionMiddlewareTests", (SimpleTestCase,), middleware),
        ):
            case = type(f"{name} in {store}", bases, {**members, "theirs": name})
            cases.append(override_settings(SESSION_STORE=store)(case))
    return cases


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
