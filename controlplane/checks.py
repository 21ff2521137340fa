"""Checks of unsafe settings: each ``manage.py`` command and each server runs them before it starts."""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from apps.accounts.identities import providers_configured
from apps.accounts.policies import ROLES
from apps.pipelines.refs import allowed_repositories
from controlplane.lib.addresses import networks_parse
from controlplane.lib.errors import InvalidInput

# Stages that other people than their developer can reach.
EXPOSED_STAGES = frozenset({"staging", "production"})
# The length of the keys that Django's own generator makes.
_MIN_SECRET_KEY = 50
_MIN_DIFFERENT = 5
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*")
# AWS itself routes these names to a stage, and to nothing else.
_AWS_HOST = re.compile(r".*\.execute-api\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
_TABLE_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")


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
    for name in ("TRUSTED_PROXIES", "OUTGOING_NETWORKS"):
        try:
            networks_parse(tuple(getattr(settings, name)))
        except ValueError as error:
            yield Error(f"{name} must be networks such as 10.0.0.0/8: {error}.", id="controlplane.E011")
    yield from _unusable_export_settings()
    yield from _unusable_session_settings()
    yield from _unusable_address()
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


def _unusable_address() -> Iterator[Error]:
    """Those who trust identity tokens compare their issuer character by character, and fetch the keys from it."""
    exposed, url = settings.STAGE in EXPOSED_STAGES, settings.PUBLIC_URL
    if url and (not _ADDRESS.fullmatch(url) or (exposed and not url.startswith("https://"))):
        why = "must be the control plane's address, such as https://ci.example.com, without a query."
        yield Error(f"PUBLIC_URL {why}", id="controlplane.E013")
    elif exposed and not url and not all(map(_AWS_HOST.fullmatch, settings.ALLOWED_HOSTS)):
        why = "must be set, as in https://ci.example.com: it is the issuer of jobs' identity tokens."
        yield Error(f"PUBLIC_URL {why}", id="controlplane.E013")


def _unusable_export_settings() -> Iterator[Error]:
    """How long the audit trail is kept, and where it is sent to. The secret is not shown."""
    # Each cold start checks the settings, and only some stages need these modules.
    from apps.audit.retention import retention_days

    try:
        retention_days()
    except ValueError as error:
        yield Error(f"AUDIT_RETENTION {error}.", id="controlplane.E014")
    if settings.AUDIT_EXPORT_SCHEMA not in ("native", "ocsf"):
        yield Error("AUDIT_EXPORT_SCHEMA must be native or ocsf.", id="controlplane.E015")
    if not settings.AUDIT_EXPORT_URL:
        return
    from controlplane.lib.outgoing import outgoing_url_require
    from controlplane.lib.webhook_signature import webhook_key

    try:
        outgoing_url_require(settings.AUDIT_EXPORT_URL, field="AUDIT_EXPORT_URL")
    except InvalidInput as error:
        yield Error(f"{error.message}.".replace(": ", " ", 1), id="controlplane.E015")
    try:
        webhook_key(settings.AUDIT_EXPORT_SECRET)
    except ValueError as error:
        yield Error(f"AUDIT_EXPORT_SECRET {error}.", id="controlplane.E015")


def _unusable_session_settings() -> Iterator[Error]:
    """The settings of django-dynamodb-sessions that our SessionStore cannot obey. Their values are not shown."""
    own, table = f"hybrid-ci-cd-sessions-{settings.STAGE}", settings.DYNAMODB_SESSIONS_TABLE_NAME
    if not _TABLE_NAME.fullmatch(table):
        why = "must be 3 to 255 letters, digits and . _ -."
        yield Error(f"DYNAMODB_SESSIONS_TABLE_NAME {why}", id="controlplane.E012")
    elif settings.STAGE in EXPOSED_STAGES and table != own:
        why = f"must be {own}: the stage's stack makes this table and gives the function rights to no other."
        yield Error(f"DYNAMODB_SESSIONS_TABLE_NAME {why}", id="controlplane.E012")
    if settings.DYNAMODB_SESSIONS_TABLE_HASH_ATTRIB_NAME != "session_id":
        why = "must be session_id, the key of the table."
        yield Error(f"DYNAMODB_SESSIONS_TABLE_HASH_ATTRIB_NAME {why}", id="controlplane.E012")
    if not settings.DYNAMODB_SESSIONS_ALWAYS_CONSISTENT:
        why = "must be true: otherwise a session that has ended could be used for some seconds more."
        yield Error(f"DYNAMODB_SESSIONS_ALWAYS_CONSISTENT {why}", id="controlplane.E012")
    if settings.DYNAMODB_SESSIONS_AWS_REGION_NAME not in ("", settings.AWS_REGION):
        why = "must be AWS_REGION or empty: a session is read and written together with its user."
        yield Error(f"DYNAMODB_SESSIONS_AWS_REGION_NAME {why}", id="controlplane.E012")
    for name in ("DYNAMODB_SESSIONS_AWS_ACCESS_KEY_ID", "DYNAMODB_SESSIONS_AWS_SECRET_ACCESS_KEY"):
        if getattr(settings, name):
            why = "must be empty: the function's role, or what botocore finds on a machine, gives the credentials."
            yield Error(f"{name} {why}", id="controlplane.E012")


def _unsafe_secret_key() -> Iterator[Error]:
    """A fallback opens what the key opens, so it must be as strong."""
    hint = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    named = [("SECRET_KEY", _secret_key()), *(("SECRET_KEY_FALLBACKS", key) for key in settings.SECRET_KEY_FALLBACKS)]
    for name, key in named:
        weakness = secret_key_weakness(key)
        if weakness:
            which = name if name == "SECRET_KEY" else f"{name} has a key that"
            yield Error(f"{which} {weakness}.", hint=hint, id="controlplane.E002")


def secret_key_weakness(key: str) -> str | None:
    """What makes this key unsafe, as the rest of a sentence, or None."""
    if len(key) < _MIN_SECRET_KEY:
        return f"has fewer than {_MIN_SECRET_KEY} characters"
    if key.startswith("django-insecure-") or len(set(key)) < _MIN_DIFFERENT:
        return "is easy to guess"
    return None


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
    for name, what in (
        ("KMS_KEY_ID", "the key that encrypts secrets"),
        ("SIGNING_KEY_IDS", "the keys that sign the audit trail and identity tokens"),
        ("LOG_BUCKET", "the bucket of archived logs"),
        ("ARTIFACT_BUCKET", "the bucket of artifacts and caches"),
    ):
        if not getattr(settings, name):
            hint = "`manage.py infrastructure deploy` creates them and prints their names."
            yield Error(f"{name} must name {what}.", hint=hint, id="controlplane.E009")


def _secret_key() -> str:
    """The secret key, or an empty text: Django raises an error when an empty key is read."""
    try:
        return str(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return ""
