"""Reading API tokens."""

from apps.accounts.models import ApiToken, User, api_token_owner, secret_hash
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.nosql.record import find_together


def api_token_list(user_id: str) -> list[ApiToken]:
    """A user's tokens, newest first, from an index that lags by moments. `user_id` and the listed attributes only."""
    return list(ApiToken.by_user.query(user_id, scan_index_forward=False))


def api_tokens_stored(user_id: str, *, enough: int) -> tuple[int, list[ApiToken]]:
    """How many tokens of a user an index lists, expired ones too, and these tokens, oldest first.

    The index lags by moments. From `enough` on, the tokens are those that the table has. Of more than twice `enough`,
    the newest are left out.
    """
    listed = list(ApiToken.by_user.query(user_id, limit=2 * enough))
    if len(listed) < enough:
        return len(listed), listed
    found = {token.token_hash: token for token in ApiToken.find_many(token.token_hash for token in listed)}
    return len(listed), [found[token.token_hash] for token in listed if token.token_hash in found]


def api_token_get(token_id: str) -> ApiToken:
    """The token with this id (two calls), which is found from a moment after it was made. Raises NotFound."""
    found = next(iter(ApiToken.by_id.query(token_id, limit=1)), None)
    token = ApiToken.find(found.token_hash) if found else None
    if token is None:
        raise NotFound("There is no such API token.", code=ErrorCode.API_TOKEN_NOT_FOUND)
    return token


def api_token_find_with_owner(secret: str) -> tuple[ApiToken | None, User | None]:
    """The token with this text, expired or not, and its owner, read consistently; either may be None.

    It costs one call if the text names the owner, as that of each token does that this version creates. The owner is
    the one whom the text or else the token names: compare.
    """
    token_hash, owner_id = secret_hash(secret), api_token_owner(secret)
    if owner_id is None:
        token = ApiToken.find(token_hash)
        return token, User.find(token.user_id) if token else None
    return tuple(find_together((ApiToken, token_hash), (User, owner_id)))  # type: ignore[return-value]
