"""Any sender of webhooks that are signed as Standard Webhooks has it. See `apps.sources.providers.interface`."""

from controlplane.lib.lazy_names import lazy_names

# The functions of the interface by their modules.
FUNCTIONS: dict[str, list[str]] = {"inbound": ["SIGNATURES", "delivery_id", "events", "kind_of", "verify"]}

__getattr__ = lazy_names(__name__, FUNCTIONS)
