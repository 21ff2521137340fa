"""Reading API tokens."""

from apps.accounts.models import ApiToken
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound


def api_token_list(user_id: str) -> list[ApiToken]:
    """A user's tokens, newest first, from an index that lags by moments. `user_id` and the listed attributes only."""
    return list(ApiToken.by_user.query(user_id, scan_index_forward=False))


def api_token_count(user_id: str, *, limit: int) -> int:
    """How many tokens a user has, counted up to `limit`, from an index that lags by moments."""
    return ApiToken.by_user.count(user_id, limit=limit)


def api_token_get(token_id: str) -> ApiToken:
    """The token with this id (two calls), which is found from a moment after it was made. Raises NotFound."""
    found = next(iter(ApiToken.by_id.query(token_id, limit=1)), None)
    token = ApiToken.find(found.token_hash) if found else None
    if token is None:
        raise NotFound("There is no such API token.", code=ErrorCode.API_TOKEN_NOT_FOUND)
    return token


def api_token_by_hash(token_hash: str) -> ApiToken | None:
    """The token with this hash, expired or not, read consistently (one read), or None."""
    return ApiToken.find(token_hash)
