"""The only writers of accounts."""

from apps.accounts.services.api_tokens import api_token_create, api_token_revoke, api_token_verify
from apps.accounts.services.sign_ins import sign_in_failed_record, sign_in_record, sign_out
from apps.accounts.services.users import user_create, user_disable

__all__ = [
    "api_token_create",
    "api_token_revoke",
    "api_token_verify",
    "sign_in_failed_record",
    "sign_in_record",
    "sign_out",
    "user_create",
    "user_disable",
]
