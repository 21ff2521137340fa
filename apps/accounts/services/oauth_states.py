"""The single use of what ties a provider's answer to the browser that asked for it."""

from datetime import UTC, datetime

from apps.accounts.models import OAuthState, secret_hash
from controlplane.nosql.connection import ConditionFailed

# As long as the session that it is bound to may hold it.
STATE_SECONDS = 1800


def oauth_state_add(*, scope: str, made_at: int, state: str) -> bool:
    """Note a state that was given out at `made_at` (seconds). False if it was given out before."""
    record = OAuthState(
        _key(scope, state), made_at=made_at, expires_at=datetime.fromtimestamp(made_at + STATE_SECONDS, UTC)
    )
    try:
        record.save(condition=OAuthState.state_hash.does_not_exist())
    except ConditionFailed:
        return False
    return True


def oauth_state_consume(*, scope: str, made_at: int, state: str) -> bool:
    """Take a state away. True for one caller only; the one whose answer was lost starts again."""
    try:
        OAuthState(_key(scope, state)).delete(condition=OAuthState.made_at == made_at)
    except ConditionFailed:
        return False
    return True


def _key(scope: str, state: str) -> str:
    return secret_hash(f"{scope} {state}")
