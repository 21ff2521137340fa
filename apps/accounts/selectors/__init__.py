"""Reading accounts. Other apps ask here and never import the models."""

from typing import TYPE_CHECKING

from apps.accounts.models import User
from apps.accounts.selectors.api_tokens import (
    api_token_find_with_owner,
    api_token_get,
    api_token_list,
    api_tokens_stored,
)
from apps.accounts.selectors.sessions import (
    SessionPage,
    SessionView,
    session_find,
    session_find_by_device,
    session_find_with_user,
    session_list,
    session_view,
)
from apps.accounts.selectors.users import (
    identities_of_user,
    identity_get,
    user_behind,
    user_by_email,
    user_by_identity,
    user_get,
    users_active,
    users_find,
)
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.accounts.selectors.invitations import invitation_by_email, invitation_by_token, invitation_get

__all__ = [
    "SessionPage",
    "SessionView",
    "User",
    "api_token_find_with_owner",
    "api_token_get",
    "api_token_list",
    "api_tokens_stored",
    "identities_of_user",
    "identity_get",
    "invitation_by_email",
    "invitation_by_token",
    "invitation_get",
    "session_find",
    "session_find_by_device",
    "session_find_with_user",
    "session_list",
    "session_view",
    "user_behind",
    "user_by_email",
    "user_by_identity",
    "user_get",
    "users_active",
    "users_find",
]

# A cold start needs none of these.
__getattr__ = lazy_names(__name__, {"invitations": ["invitation_by_email", "invitation_by_token", "invitation_get"]})
