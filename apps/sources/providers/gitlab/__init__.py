"""GitLab. See `apps.sources.providers.interface`."""

from controlplane.lib.lazy_names import lazy_names

# The functions of the interface by their modules.
FUNCTIONS: dict[str, list[str]] = {
    "checks": ["check_send"],
    "inbound": ["SIGNATURES", "delivery_id", "events", "kind_of", "verify"],
    "reads": ["compare", "repositories", "repository_get"],
}

__getattr__ = lazy_names(__name__, FUNCTIONS)
