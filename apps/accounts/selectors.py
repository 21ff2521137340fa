"""Reading accounts. Other apps ask here and never import the models."""

from apps.accounts.models import ApiToken, User


def user_get(user_id: str) -> User | None:
    """The person with this id, read consistently (one read), or None."""
    return User.find(user_id)


def user_by_email(email: str) -> User | None:
    """The person with this address in any spelling of its case, read consistently (two reads), or None."""
    return User.find_by_email(email)


def api_token_list(user_id: str) -> list[ApiToken]:
    """A person's tokens, newest first, from an index that lags by moments. `user_id` and the listed attributes only."""
    return list(ApiToken.by_user.query(user_id, scan_index_forward=False))
