"""OAuth states: each ties a provider's answer to the browser that asked for it, and is valid once."""

from datetime import UTC, datetime

from apps.accounts.models import OAuthState, secret_hash
from controlplane.nosql.connection import ConditionFailed

# As long as someone may take to sign in at the provider.
STATE_SECONDS = 1800


def oauth_state_add(*, scope: str, made_at: int, state: str) -> bool:
    """Store a state that was made at `made_at` (seconds since 1970). False if there is one like it already."""
    record = OAuthState(
        _key(scope, state), made_at=made_at, expires_at=datetime.fromtimestamp(made_at + STATE_SECONDS, UTC)
    )
    try:
        record.save(condition=OAuthState.state_hash.does_not_exist())
    except ConditionFailed:
        return False
    return True


def oauth_state_consume(*, scope: str, made_at: int, state: str) -> bool:
    """Use a state up. True for one caller only; if the response to that caller's write is lost, for none."""
    try:
        OAuthState(_key(scope, state)).delete(condition=OAuthState.made_at == made_at)
    except ConditionFailed:
        return False
    return True


def _key(scope: str, state: str) -> str:
    return secret_hash(f"{scope} {state}")
