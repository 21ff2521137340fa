"""Users, what makes their addresses unique, their programs' tokens and their sessions."""

from typing import TYPE_CHECKING

from apps.accounts.models.api_tokens import (
    API_TOKENS,
    ApiToken,
    api_token_new,
    api_token_owner,
    api_token_shaped,
)
from apps.accounts.models.hashes import secret_hash
from apps.accounts.models.identities import Identity, OAuthState
from apps.accounts.models.session_data import session_data_decode, session_data_encode, session_signs_in
from apps.accounts.models.session_memory import SessionMemory, session_memory, sessions_in_memory
from apps.accounts.models.sessions import Session, session_token_new, session_token_shaped, session_token_user
from apps.accounts.models.users import USERS, AccountClaim, User, UserFacade
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.accounts.models.device_authorizations import DeviceAuthorization
    from apps.accounts.models.invitations import (
        INVITATIONS,
        Invitation,
        invitation_key,
        invitation_token_key,
        invitation_token_new,
    )
    from apps.accounts.models.rate_limits import RateLimitWindow

__all__ = [
    "API_TOKENS",
    "INVITATIONS",
    "USERS",
    "AccountClaim",
    "ApiToken",
    "DeviceAuthorization",
    "Identity",
    "Invitation",
    "OAuthState",
    "RateLimitWindow",
    "Session",
    "SessionMemory",
    "User",
    "UserFacade",
    "api_token_new",
    "api_token_owner",
    "api_token_shaped",
    "invitation_key",
    "invitation_token_key",
    "invitation_token_new",
    "secret_hash",
    "session_data_decode",
    "session_data_encode",
    "session_memory",
    "session_signs_in",
    "session_token_new",
    "session_token_shaped",
    "session_token_user",
    "sessions_in_memory",
]

# A cold start does not load these.
__getattr__ = lazy_names(
    __name__,
    {
        "device_authorizations": ["DeviceAuthorization"],
        "invitations": [
            "INVITATIONS",
            "Invitation",
            "invitation_key",
            "invitation_token_key",
            "invitation_token_new",
        ],
        "rate_limits": ["RateLimitWindow"],
    },
)
