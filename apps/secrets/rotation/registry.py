"""The rotators and targets that there are, by their names: the product's own, and those of settings."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from controlplane.lib.errors import InvalidInput
from controlplane.lib.rotation import Rotator, System, Target, config_complete

_HOME = "apps.secrets.rotation"
ROTATORS: Mapping[str, str] = {
    "agent-keys": "apps.agents.services.key_rotator.AgentKeys",
    "aws-access-key": f"{_HOME}.rotators.iam.IamAccessKey",
    "django-signing-key": f"{_HOME}.rotators.django_keys.DjangoSigningKey",
    "generated": f"{_HOME}.rotators.generated.GeneratedValue",
    "postgresql": f"{_HOME}.rotators.postgresql.PostgresqlPassword",
}
TARGETS: Mapping[str, str] = {
    "aws-parameter": f"{_HOME}.targets.aws.Parameter",
    "aws-secret": f"{_HOME}.targets.aws.SecretsManagerSecret",
    "github": f"{_HOME}.targets.github.GithubSecret",
    "kubernetes": f"{_HOME}.targets.kubernetes.KubernetesSecret",
    "vault": f"{_HOME}.targets.vault.VaultSecret",
    "webhook": f"{_HOME}.targets.webhook.SignedWebhook",
}


def rotator_names() -> list[str]:
    """The names of all rotators."""
    return sorted({*ROTATORS, *settings.ROTATORS})


def target_names() -> list[str]:
    """The names of all targets."""
    return sorted({*TARGETS, *settings.ROTATION_TARGETS})


def rotator_find(name: str) -> Rotator:
    """The rotator of this name. Raises InvalidInput for the field ``rotator``."""
    found = _made((settings.ROTATORS.get(name) or ROTATORS.get(name)) if isinstance(name, str) else None)
    if not isinstance(found, Rotator):
        raise InvalidInput.field("rotator", f"must be one of {', '.join(rotator_names())}")
    return found


def target_find(name: str) -> Target:
    """The target of this name. Raises InvalidInput for the field ``targets``."""
    found = _made((settings.ROTATION_TARGETS.get(name) or TARGETS.get(name)) if isinstance(name, str) else None)
    if not isinstance(found, Target):
        raise InvalidInput.field("targets", f"must each have a kind of {', '.join(target_names())}")
    return found


def config_validate(system: System, config: Any, *, field: str) -> dict[str, Any]:
    """The configuration of a system with all defaults. Raises InvalidInput for the member of `field` that is wrong."""
    if not isinstance(config, dict):
        raise InvalidInput.field(field, "must be an object")
    try:
        return config_complete(system, config)
    except ValueError as error:
        option, rule = error.args
        raise InvalidInput.field(f"{field}.{option}", rule) from None


@cache
def _made(path: str | None) -> object:
    """One instance serves all rotations, since rotators and targets keep no state."""
    return import_string(path)() if path else None
