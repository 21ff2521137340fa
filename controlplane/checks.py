"""Checks of unsafe settings: each ``manage.py`` command and each server runs them before it starts."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from apps.accounts.identities import providers_configured
from apps.accounts.policies import ROLES
from apps.pipelines.refs import allowed_repositories

# Stages that other people than their developer can reach.
EXPOSED_STAGES = frozenset({"staging", "production"})
# The length of the keys that Django's own generator makes.
_MIN_SECRET_KEY = 50
_MIN_DIFFERENT = 5


@register(Tags.security)
def settings_check(_apps: Any = None, **_options: Any) -> list[CheckMessage]:
    """The unsafe settings of this stage. A local stage has only invalid ones."""
    return list(_unsafe())


def settings_require_safe() -> None:
    """Refuse to serve without a secret key, and in an exposed stage with any unsafe setting.

    Raises ImproperlyConfigured.
    """
    problems = [str(message.msg) for message in _unsafe()]
    if not problems and not _secret_key():
        problems = ["SECRET_KEY is empty."]
    if problems:
        raise ImproperlyConfigured(" ".join(problems))


def _unsafe() -> Iterator[Error]:
    try:
        allowed_repositories()
    except ValueError as error:
        yield Error(f"ALLOWED_REPOSITORIES is invalid: {error}.", id="controlplane.E010")
    if settings.STAGE not in EXPOSED_STAGES:
        return
    if settings.DEBUG:
        yield Error("DEBUG must be false: it shows internals of the control plane to everyone.", id="controlplane.E001")
    yield from _unsafe_secret_key()
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        yield Error("ALLOWED_HOSTS must name the hosts of the control plane.", id="controlplane.E003")
    yield from _unsafe_sign_in()
    yield from _unsafe_origins()
    yield from _unsafe_storage()


def _unsafe_secret_key() -> Iterator[Error]:
    key = _secret_key()
    if len(key) < _MIN_SECRET_KEY:
        message = f"SECRET_KEY has fewer than {_MIN_SECRET_KEY} characters."
    elif key.startswith("django-insecure-") or len(set(key)) < _MIN_DIFFERENT:
        message = "SECRET_KEY is easy to guess."
    else:
        return
    hint = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    yield Error(message, hint=hint, id="controlplane.E002")


def _unsafe_sign_in() -> Iterator[Error]:
    if not providers_configured():
        yield Error(
            "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, or GITHUB's, must be set: users sign in with a provider.",
            id="controlplane.E004",
        )
    for name in ("GOOGLE_ACCOUNTS_URL", "GOOGLE_TOKEN_URL", "GOOGLE_USERINFO_URL", "GITHUB_URL", "GITHUB_API_URL"):
        if not getattr(settings, name).startswith("https://"):
            yield Error(f"{name} must begin with https://.", id="controlplane.E006")
    for name in ("ALLOWED_ADDRESSES", "ALLOWED_GITHUB_ORGS", "ALLOWED_DOMAINS"):
        unknown = sorted(set(getattr(settings, name).values()) - ROLES.keys())
        if unknown:
            yield Error(f"{name} has unknown roles: {', '.join(unknown)}.", id="controlplane.E007")
    if settings.SESSION_STORE != "dynamodb":
        yield Error(
            "SESSION_STORE must be dynamodb: otherwise each process has sessions of its own.", id="controlplane.E008"
        )


def _unsafe_origins() -> Iterator[Error]:
    if getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False) or getattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", ()):
        yield Error("CORS_ALLOWED_ORIGINS must name each origin.", id="controlplane.E005")
    for origin in settings.CORS_ALLOWED_ORIGINS:
        if not origin.startswith("https://") or "*" in origin:
            yield Error(
                f"CORS_ALLOWED_ORIGINS has {origin}, which is not a single https origin.", id="controlplane.E005"
            )


def _unsafe_storage() -> Iterator[Error]:
    """Other machines do not see the files of one machine, and Lambda does not keep files."""
    for name, what in (("KMS_KEY_ID", "the key that encrypts secrets"), ("LOG_BUCKET", "the bucket of archived logs")):
        if not getattr(settings, name):
            hint = "`manage.py infrastructure deploy` creates both and prints their names."
            yield Error(f"{name} must name {what}.", hint=hint, id="controlplane.E009")


def _secret_key() -> str:
    """The secret key, or an empty text: Django raises an error when an empty key is read."""
    try:
        return str(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return ""
