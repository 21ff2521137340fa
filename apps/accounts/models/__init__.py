"""Users, what makes their addresses unique, their programs' tokens and their sessions."""

from apps.accounts.models.api_tokens import API_TOKENS, ApiToken
from apps.accounts.models.hashes import secret_hash
from apps.accounts.models.identities import Identity, OAuthState
from apps.accounts.models.rate_limits import RateLimitWindow
from apps.accounts.models.session_memory import SessionMemory, session_memory, sessions_in_memory
from apps.accounts.models.sessions import Session, session_token_new, session_token_shaped, session_token_user
from apps.accounts.models.users import USERS, AccountClaim, User, UserFacade

__all__ = [
    "API_TOKENS",
    "USERS",
    "AccountClaim",
    "ApiToken",
    "Identity",
    "OAuthState",
    "RateLimitWindow",
    "Session",
    "SessionMemory",
    "User",
    "UserFacade",
    "secret_hash",
    "session_memory",
    "session_token_new",
    "session_token_shaped",
    "session_token_user",
    "sessions_in_memory",
]
