"""social-auth's storage. It uses only the states, which services store; nothing else of it is stored.

`services.identities` finds and creates users, so social-auth's own storage of users is not used.
"""

from typing import Any

from social_core.storage import BaseStorage, NonceMixin, UserMixin

from apps.accounts.services import oauth_state_add, oauth_state_consume


class OAuthNonce(NonceMixin):
    """States: one conditional write stores one and one uses it up, so that each lets only one request in."""

    @classmethod
    def use(cls, server_url: str, timestamp: Any, salt: str) -> bool:
        return oauth_state_add(scope=server_url, made_at=int(timestamp), state=salt)

    @classmethod
    def consume(cls, server_url: str, timestamp: int, salt: str) -> bool:
        return oauth_state_consume(scope=server_url, made_at=int(timestamp), state=salt)


class OAuthStorage(BaseStorage):
    """For the strategy. Associations, codes and partial pipelines are for protocols that we do not offer."""

    user = UserMixin
    nonce = OAuthNonce

    @classmethod
    def is_integrity_error(cls, exception: object) -> bool:  # noqa: ARG003
        return False
