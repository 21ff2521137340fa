"""The only writers of accounts."""

from apps.accounts.services.api_tokens import api_token_create, api_token_revoke, api_token_verify
from apps.accounts.services.identities import identity_sign_in
from apps.accounts.services.oauth_states import oauth_state_add, oauth_state_consume
from apps.accounts.services.rate_limits import api_call_rate_limit, sign_in_rate_limit
from apps.accounts.services.session_data import (
    session_create,
    session_data_decode,
    session_delete,
    session_touch,
    session_update,
)
from apps.accounts.services.sessions import (
    StartedSession,
    VerifiedSession,
    device_remove,
    session_logout,
    session_revoke,
    session_start,
    session_verify,
    sessions_end,
    sign_out,
)
from apps.accounts.services.sign_ins import sign_in_failed_record
from apps.accounts.services.users import (
    user_create,
    user_disable,
    user_password_rehash,
    user_password_set,
    user_update,
)

__all__ = [
    "StartedSession",
    "VerifiedSession",
    "api_call_rate_limit",
    "api_token_create",
    "api_token_revoke",
    "api_token_verify",
    "device_remove",
    "identity_sign_in",
    "oauth_state_add",
    "oauth_state_consume",
    "session_create",
    "session_data_decode",
    "session_delete",
    "session_logout",
    "session_revoke",
    "session_start",
    "session_touch",
    "session_update",
    "session_verify",
    "sessions_end",
    "sign_in_failed_record",
    "sign_in_rate_limit",
    "sign_out",
    "user_create",
    "user_disable",
    "user_password_rehash",
    "user_password_set",
    "user_update",
]
