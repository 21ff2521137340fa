"""Writing secrets, and giving them to jobs."""

from apps.secrets.services.deliveries import SecretsMissing, secrets_deliver
from apps.secrets.services.secrets import secret_change, secret_create, secret_delete
from apps.secrets.services.versions import (
    secret_set,
    version_activate_add,
    version_add,
    version_retire,
    version_revert,
    version_value,
)

__all__ = [
    "SecretsMissing",
    "secret_change",
    "secret_create",
    "secret_delete",
    "secret_set",
    "secrets_deliver",
    "version_activate_add",
    "version_add",
    "version_retire",
    "version_revert",
    "version_value",
]
