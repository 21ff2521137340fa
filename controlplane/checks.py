"""Settings under which the control plane does not run: checked by every ``manage.py`` command and before serving."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

# Stages that others than their developer can reach.
_EXPOSED_STAGES = frozenset({"staging", "production"})
# As many characters as Django's own key generator makes.
_MIN_SECRET_KEY = 50


@register(Tags.security)
def settings_check(_apps: Any = None, **_options: Any) -> list[CheckMessage]:
    """What is unsafe in this stage. A local stage may be anything."""
    return list(_unsafe())


def settings_require_safe() -> None:
    """Refuse to serve, whatever the stage, without a secret key, and in an exposed stage with any unsafe setting.

    Raises ImproperlyConfigured.
    """
    problems = [str(message.msg) for message in _unsafe()]
    if not problems and not _secret_key():
        problems = ["SECRET_KEY is empty."]
    if problems:
        raise ImproperlyConfigured(" ".join(problems))


def _unsafe() -> Iterator[Error]:
    if settings.STAGE not in _EXPOSED_STAGES:
        return
    if settings.DEBUG:
        yield Error("DEBUG shows the inside of the control plane to everyone.", id="controlplane.E001")
    if len(_secret_key()) < _MIN_SECRET_KEY:
        yield Error(
            f"SECRET_KEY has fewer than {_MIN_SECRET_KEY} characters.",
            hint="python -c 'import secrets; print(secrets.token_urlsafe(50))' makes one.",
            id="controlplane.E002",
        )
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        yield Error("ALLOWED_HOSTS must name the hosts that are served.", id="controlplane.E003")


def _secret_key() -> str:
    """Django raises an error when its empty secret key is read."""
    try:
        return str(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return ""
