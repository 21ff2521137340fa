"""The settings with which the control plane refuses to start."""

import subprocess
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
    "PUBLIC_URL": "https://ci.example.com",
    "KMS_KEY_ID": "alias/hybrid-ci-cd-staging",
    "SIGNING_KEY_IDS": "alias/hybrid-ci-cd-staging-signing",
    "LOG_BUCKET": "hybrid-ci-cd-job-logs-staging-123456789012",
    "ARTIFACT_BUCKET": "hybrid-ci-cd-artifacts-staging-123456789012",
}
SERVE_AND_COMMAND = """
import sys
import controlplane.wsgi
print("served with", [name for name in sys.modules if name.startswith("social_")])
import manage
manage.main()
"""
# A command and then a server, in one process.
COMMAND_AND_SERVE = """
import manage
try:
    manage.main()
except SystemExit as end:
    print("the command ended with", end.code)
import controlplane.wsgi
print("served")
"""


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_safe_settings_serve_without_social_login_and_pass_all_checks(stage: str) -> None:
    # Django's own checks for deployments come on top of those of each command.
    done = manage("-c", SERVE_AND_COMMAND, "check", "--deploy", "--fail-level", "WARNING", **SAFE, STAGE=stage)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("served with []\n")
    assert "no issues" in done.stdout


def test_an_unsafe_setting_stops_commands_and_servers_of_an_exposed_stage() -> None:
    done = manage("-c", COMMAND_AND_SERVE, "check", **SAFE | {"DEBUG": "true", "STAGE": "production"})
    assert (done.returncode, done.stdout) == (1, "the command ended with 1\n")
    assert "SystemCheckError" in done.stderr.partition("Traceback")[0]
    assert "ImproperlyConfigured: DEBUG" in done.stderr


def test_an_unsafe_setting_stops_staging_as_it_stops_production(production: Any) -> None:
    production.STAGE = "staging"
    production.DYNAMODB_SESSIONS_TABLE_NAME = "hybrid-ci-cd-sessions-staging"
    assert settings_check() == []
    settings_require_safe()
    production.DEBUG = True
    (found,) = settings_check()
    assert str(found.msg).startswith("DEBUG")
    with pytest.raises(ImproperlyConfigured, match="DEBUG"):
        settings_require_safe()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLE_NAME", "a table"),
        ("TABLE_HASH_ATTRIB_NAME", "session_key"),
        ("ALWAYS_CONSISTENT", False),
        ("AWS_REGION_NAME", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
    ],
)
def test_a_setting_of_django_dynamodb_sessions_that_cannot_be_obeyed_is_refused(
    name: str, value: Any, settings: Any
) -> None:
    assert settings_check() == []
    setattr(settings, f"DYNAMODB_SESSIONS_{name}", value)
    (problem,) = settings_check()
    assert problem.msg.startswith(f"DYNAMODB_SESSIONS_{name} must be ")
    # It may be a secret.
    assert str(value) not in problem.msg


@pytest.fixture(scope="module")
def served_locally() -> subprocess.CompletedProcess[str]:
    """A server of the stage "local" with settings that are unsafe, which prints the table of its sessions."""
    code = "import controlplane.wsgi; from apps.accounts.models import Session; print(Session.Meta.table_name, end='')"
    unsafe = {"SECRET_KEY": "short", "DEBUG": "true", "ALLOWED_HOSTS": "*"}
    return manage("-c", code, **unsafe, DYNAMODB_SESSIONS_TABLE_NAME="my-sessions")


def test_a_local_stage_starts_with_unsafe_settings(served_locally: subprocess.CompletedProcess[str]) -> None:
    assert served_locally.returncode == 0, served_locally.stderr


def test_the_table_of_sessions_has_the_name_of_djangos_package_setting(
    served_locally: subprocess.CompletedProcess[str],
) -> None:
    assert served_locally.stdout == "my-sessions", served_locally.stderr


def test_a_stage_has_its_own_table_of_sessions(production: Any, settings: Any) -> None:
    settings.DYNAMODB_SESSIONS_TABLE_NAME = "my-sessions"
    (problem,) = settings_check()
    assert "must be hybrid-ci-cd-sessions-production" in problem.msg


@pytest.fixture
def production(settings: Any) -> Any:
    """The settings of this process, changed to those of production."""
    settings.STAGE = "production"
    settings.DYNAMODB_SESSIONS_TABLE_NAME = "hybrid-ci-cd-sessions-production"
    settings.SECRET_KEY = SAFE["SECRET_KEY"]
    settings.ALLOWED_HOSTS = ["ci.example.com"]
    settings.GOOGLE_CLIENT_ID = settings.GOOGLE_CLIENT_SECRET = "something"
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]
    settings.SIGNING_KEY_IDS = [SAFE["SIGNING_KEY_IDS"]]
    for name in ("PUBLIC_URL", "KMS_KEY_ID", "LOG_BUCKET", "ARTIFACT_BUCKET"):
        setattr(settings, name, SAFE[name])
    assert settings_check() == []
    settings_require_safe()
    settings.SECRET_KEY_FALLBACKS = ["another key " + SAFE["SECRET_KEY"]]
    assert settings_check() == []
    return settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", True),
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "0123456789" * 4 + "012345678"),
        ("SECRET_KEY", "x" * 50),
        ("SECRET_KEY", "django-insecure-" + "0123456789" * 5),
        ("SECRET_KEY_FALLBACKS", [SAFE["SECRET_KEY"], "0123456789" * 4 + "012345678"]),
        ("SECRET_KEY_FALLBACKS", ["x" * 50]),
        ("SECRET_KEY_FALLBACKS", ["django-insecure-" + "0123456789" * 5]),
        ("ALLOWED_HOSTS", ["*"]),
        ("ALLOWED_HOSTS", []),
        ("GOOGLE_CLIENT_ID", ""),
        ("GITHUB_URL", "http://github.example.com"),
        ("ALLOWED_DOMAINS", {"example.com": "emperor"}),
        ("CORS_ALLOWED_ORIGINS", ["http://app.example.com"]),
        ("CORS_ALLOWED_ORIGINS", ["https://*.example.com"]),
        ("CORS_ALLOW_ALL_ORIGINS", True),
        ("SESSION_STORE", "memory"),
        ("PUBLIC_URL", ""),
        ("PUBLIC_URL", "http://ci.example.com"),
        ("PUBLIC_URL", "https://ci.example.com/?stage=production"),
        ("PUBLIC_URL", "https://ada:secret@ci.example.com"),
        ("PUBLIC_URL", "ci.example.com"),
        ("KMS_KEY_ID", ""),
        ("SIGNING_KEY_IDS", []),
        ("LOG_BUCKET", ""),
        ("ARTIFACT_BUCKET", ""),
        ("ALLOWED_REPOSITORIES", ["github.com"]),
        ("TRUSTED_PROXIES", ["10.0.0.0/8", "proxy.internal"]),
        ("TRUSTED_PROXIES", ["10.0.0.1/8"]),
        ("TRUSTED_PROXIES", ["0.0.0.0/0"]),
        ("TRUSTED_PROXIES", [""]),
        ("OUTGOING_NETWORKS", ["10.0.0.1/8"]),
        ("AUDIT_RETENTION", {"job.": "7"}),
        ("AUDIT_EXPORT_SCHEMA", "ecs"),
    ],
)
def test_production_does_not_start_with(production: Any, name: str, value: Any) -> None:
    setattr(production, name, value)
    setting = name.replace("ALLOW_ALL", "ALLOWED")
    (found,) = settings_check()
    assert str(found.msg).startswith(setting)
    with pytest.raises(ImproperlyConfigured, match=setting):
        settings_require_safe()


@pytest.mark.parametrize("url", ["https://ci.example.com", "https://ci.example.com:8443", "https://example.com/ci/v1"])
def test_the_address_of_the_control_plane_may_have_a_port_and_a_path(production: Any, url: str) -> None:
    production.PUBLIC_URL = url
    assert settings_check() == []


def test_below_awss_own_address_alone_a_stage_needs_no_other(production: Any) -> None:
    """AWS chooses that address when the stage is deployed for the first time, and routes no other name to it."""
    production.PUBLIC_URL = ""
    production.ALLOWED_HOSTS = [".execute-api.eu-central-1.amazonaws.com"]
    assert settings_check() == []
    production.ALLOWED_HOSTS = [".execute-api.eu-central-1.amazonaws.com", "ci.example.com"]
    (found,) = settings_check()
    assert found.id == "controlplane.E013"


@pytest.mark.parametrize("url", ["http://siem.example.com/", "https://10.0.0.1/", "siem.example.com"])
def test_no_stage_starts_with_a_webhook_that_may_not_be_reached(settings: Any, url: str) -> None:
    settings.AUDIT_EXPORT_URL, settings.AUDIT_EXPORT_SECRET = url, f"whsec_{'A' * 32}"
    (found,) = settings_check()
    assert str(found.msg).startswith("AUDIT_EXPORT_URL ")


def test_no_stage_starts_with_a_webhook_without_a_secret_that_signs(settings: Any) -> None:
    settings.AUDIT_EXPORT_URL, settings.AUDIT_EXPORT_SECRET = "https://siem.example.com/", "changeme"
    (found,) = settings_check()
    assert str(found.msg).startswith("AUDIT_EXPORT_SECRET must be whsec_")
    assert "changeme" not in str(found.msg)


def test_without_a_secret_key_commands_run_locally_but_nothing_is_served() -> None:
    done = manage("-c", COMMAND_AND_SERVE, "check", SECRET_KEY="")
    assert done.returncode == 1
    assert "no issues" in done.stdout
    assert "ImproperlyConfigured: SECRET_KEY is empty." in done.stderr


def test_no_stage_starts_with_a_pattern_that_allows_something_unknown(settings: Any) -> None:
    settings.ALLOWED_REPOSITORIES = ["github.com/acme/*", "git*.com/acme"]
    (found,) = settings_check()
    assert str(found.msg).startswith("ALLOWED_REPOSITORIES is invalid: 'git*.com/acme' must be a pattern such as")
