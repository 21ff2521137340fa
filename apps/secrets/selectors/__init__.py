"""Reading secrets. None of these reads a value."""

from apps.secrets.selectors.deliveries import DeliveryPage, SeenBy, secret_deliveries
from apps.secrets.selectors.secrets import (
    SecretPage,
    secret_context,
    secret_get,
    secret_list,
    secret_versions,
    secrets_named,
    version_get,
)

__all__ = [
    "DeliveryPage",
    "SecretPage",
    "SeenBy",
    "secret_context",
    "secret_deliveries",
    "secret_get",
    "secret_list",
    "secret_versions",
    "secrets_named",
    "version_get",
]
