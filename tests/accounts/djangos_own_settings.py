"""The settings of `djangos_own`: ours, and what the modules of Django's tests want in order to be imported."""

from tests.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.sessions", "sessions_tests"]  # noqa: F405
