"""The only writers of accounts."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.accounts.services.api_tokens import api_token_create, api_token_revoke, api_token_verify
    from apps.accounts.services.identities import identity_link, identity_sign_in, identity_unlink
    from apps.accounts.services.invitations import (
        invitation_accept,
        invitation_accept_password,
        invitation_create,
        invitation_revoke,
    )
    from apps.accounts.services.known_browsers import known_browser_sign, known_browser_verify
    from apps.accounts.services.oauth_states import oauth_state_add, oauth_state_consume
    from apps.accounts.services.passwords import user_password_change
    from apps.accounts.services.rate_limits import (
        Reservation,
        api_call_rate_limit,
        enrolment_failure_count,
        invitation_failure_count,
        password_attempt_reserve,
        provider_attempt_reserve,
        provider_start_count,
        rate_limits_end,
    )
    from apps.accounts.services.session_data import (
        session_create,
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
    from apps.accounts.services.sign_ins import provider_sign_in_failed, sign_in_failed_record
    from apps.accounts.services.users import (
        user_check_add,
        user_create,
        user_delete,
        user_disable,
        user_password_rehash,
        user_password_set,
        user_update,
    )

__all__ = [
    "Reservation",
    "StartedSession",
    "VerifiedSession",
    "api_call_rate_limit",
    "api_token_create",
    "api_token_revoke",
    "api_token_verify",
    "device_remove",
    "enrolment_failure_count",
    "identity_link",
    "identity_sign_in",
    "identity_unlink",
    "invitation_accept",
    "invitation_accept_password",
    "invitation_create",
    "invitation_failure_count",
    "invitation_revoke",
    "known_browser_sign",
    "known_browser_verify",
    "oauth_state_add",
    "oauth_state_consume",
    "password_attempt_reserve",
    "provider_attempt_reserve",
    "provider_sign_in_failed",
    "provider_start_count",
    "rate_limits_end",
    "session_create",
    "session_delete",
    "session_logout",
    "session_revoke",
    "session_start",
    "session_touch",
    "session_update",
    "session_verify",
    "sessions_end",
    "sign_in_failed_record",
    "sign_out",
    "user_check_add",
    "user_create",
    "user_delete",
    "user_disable",
    "user_password_change",
    "user_password_rehash",
    "user_password_set",
    "user_update",
]

# A module is imported with the first use of one of its names: a cold start needs few of them.
__getattr__ = lazy_names(
    __name__,
    {
        "api_tokens": ["api_token_create", "api_token_revoke", "api_token_verify"],
        "identities": ["identity_link", "identity_sign_in", "identity_unlink"],
        "invitations": ["invitation_accept", "invitation_accept_password", "invitation_create", "invitation_revoke"],
        "known_browsers": ["known_browser_sign", "known_browser_verify"],
        "oauth_states": ["oauth_state_add", "oauth_state_consume"],
        "passwords": ["user_password_change"],
        "rate_limits": [
            "Reservation",
            "api_call_rate_limit",
            "enrolment_failure_count",
            "invitation_failure_count",
            "password_attempt_reserve",
            "provider_attempt_reserve",
            "provider_start_count",
            "rate_limits_end",
        ],
        "session_data": ["session_create", "session_delete", "session_touch", "session_update"],
        "sessions": [
            "StartedSession",
            "VerifiedSession",
            "device_remove",
            "session_logout",
            "session_revoke",
            "session_start",
            "session_verify",
            "sessions_end",
            "sign_out",
        ],
        "sign_ins": ["provider_sign_in_failed", "sign_in_failed_record"],
        "users": [
            "user_check_add",
            "user_create",
            "user_delete",
            "user_disable",
            "user_password_rehash",
            "user_password_set",
            "user_update",
        ],
    },
)
