"""Reading accounts. Other apps ask here and never import the models."""

from apps.accounts.selectors.api_tokens import api_token_by_hash, api_token_count, api_token_get, api_token_list
from apps.accounts.selectors.sessions import (
    SessionView,
    session_find,
    session_find_with_user,
    session_list,
    sessions_of_user,
)
from apps.accounts.selectors.users import user_by_email, user_by_identity, user_get

__all__ = [
    "SessionView",
    "api_token_by_hash",
    "api_token_count",
    "api_token_get",
    "api_token_list",
    "session_find",
    "session_find_with_user",
    "session_list",
    "sessions_of_user",
    "user_by_email",
    "user_by_identity",
    "user_get",
]
