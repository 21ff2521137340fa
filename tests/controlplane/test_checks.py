"""The settings with which the control plane refuses to start."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from controlplane.checks import settings_check, settings_require_safe
from tests.commands import manage

SAFE = {
    "SECRET_KEY": "0123456789" * 5,
    "DEBUG": "false",
    "ALLOWED_HOSTS": "ci.example.com",
    "GOOGLE_CLIENT_ID": "id",
    "GOOGLE_CLIENT_SECRET": "secret",
    "ALLOWED_DOMAINS": "example.com=viewer",
    "CORS_ALLOWED_ORIGINS": "https://app.example.com",
    "KMS_KEY_ID": "alias/hybrid-ci-cd-staging",
    "LOG_BUCKET": "hybrid-ci-cd-job-logs-staging-123456789012",
}
SERVE = ("-c", "import controlplane.wsgi")


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_safe_settings_start(stage: str) -> None:
    assert manage("check", **SAFE, STAGE=stage).returncode == 0
    assert manage(*SERVE, **SAFE, STAGE=stage).returncode == 0


def test_djangos_own_deployment_checks_find_no_issues() -> None:
    checked = manage("check", "--deploy", "--fail-level", "WARNING", **SAFE, STAGE="production")
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


def test_serving_does_not_import_social_login() -> None:
    code = "import sys, controlplane.wsgi; print([name for name in sys.modules if name.startswith('social_')])"
    served = manage("-c", code, **SAFE, STAGE="production")
    assert served.stdout.strip() == "[]", served.stderr


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_an_unsafe_setting_stops_commands_and_servers_of_an_exposed_stage(stage: str) -> None:
    unsafe = {**SAFE, "DEBUG": "true", "STAGE": stage}
    checked, served = manage("check", **unsafe), manage(*SERVE, **unsafe)
    assert checked.returncode == served.returncode == 1
    assert "DEBUG" in checked.stderr
    assert "ImproperlyConfigured: DEBUG" in served.stderr


@pytest.fixture
def production(settings: Any) -> Any:
    """The settings of this process, changed to those of production."""
    settings.STAGE = "production"
    settings.SECRET_KEY = SAFE["SECRET_KEY"]
    settings.ALLOWED_HOSTS = ["ci.example.com"]
    settings.GOOGLE_CLIENT_ID = settings.GOOGLE_CLIENT_SECRET = "something"
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]
    settings.KMS_KEY_ID, settings.LOG_BUCKET = SAFE["KMS_KEY_ID"], SAFE["LOG_BUCKET"]
    assert settings_check() == []
    settings_require_safe()
    return settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", True),
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "0123456789" * 4),
        ("SECRET_KEY", "x" * 50),
        ("SECRET_KEY", "django-insecure-" + "0123456789" * 5),
        ("ALLOWED_HOSTS", ["*"]),
        ("ALLOWED_HOSTS", []),
        ("GOOGLE_CLIENT_ID", ""),
        ("GITHUB_URL", "http://github.example.com"),
        ("ALLOWED_DOMAINS", {"example.com": "emperor"}),
        ("CORS_ALLOWED_ORIGINS", ["http://app.example.com"]),
        ("CORS_ALLOWED_ORIGINS", ["https://*.example.com"]),
        ("CORS_ALLOW_ALL_ORIGINS", True),
        ("SESSION_STORE", "memory"),
        ("KMS_KEY_ID", ""),
        ("LOG_BUCKET", ""),
        ("ALLOWED_REPOSITORIES", ["github.com"]),
    ],
)
def test_production_does_not_start_with(production: Any, name: str, value: Any) -> None:
    setattr(production, name, value)
    setting = name.replace("ALLOW_ALL", "ALLOWED")
    (found,) = settings_check()
    assert str(found.msg).startswith(setting)
    with pytest.raises(ImproperlyConfigured, match=setting):
        settings_require_safe()


def test_without_a_secret_key_commands_run_locally_but_nothing_is_served() -> None:
    assert manage("check", SECRET_KEY="").returncode == 0
    served = manage(*SERVE, SECRET_KEY="")
    assert served.returncode == 1
    assert "ImproperlyConfigured: SECRET_KEY is empty." in served.stderr


def test_no_stage_starts_with_a_pattern_that_allows_something_unknown(settings: Any) -> None:
    settings.ALLOWED_REPOSITORIES = ["github.com/acme/*", "git*.com/acme"]
    (found,) = settings_check()
    assert str(found.msg).startswith("ALLOWED_REPOSITORIES is invalid: 'git*.com/acme' must be a pattern such as")


def test_a_local_stage_starts_with_unsafe_settings() -> None:
    assert manage(*SERVE, SECRET_KEY="short", DEBUG="true", ALLOWED_HOSTS="*").returncode == 0
