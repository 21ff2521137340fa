"""Reading device authorizations."""

from apps.accounts.models import DeviceAuthorization
from apps.accounts.models.device_authorizations import user_code_key
from controlplane.lib import clock


def device_authorization_find(user_code: str) -> DeviceAuthorization | None:
    """The open authorization with this code, however it is typed, or None. One consistent read."""
    key = user_code_key(user_code)
    found = DeviceAuthorization.find(key) if key else None
    if found is None or found.decision or found.expires_at <= clock.now():
        return None
    return found
