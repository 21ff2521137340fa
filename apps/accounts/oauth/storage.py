"""What social-auth keeps: identities and states, in our records. Nothing else of it is used, and none of it is stored.

Accounts are found and made by `services.identities`, so its storage of users only tells who has an identity.
"""

from typing import Any

from social_core.storage import BaseStorage, NonceMixin, UserMixin

from apps.accounts.services import oauth_state_add, oauth_state_consume


class OAuthNonce(NonceMixin):
    """States: made and taken by one conditional write each, so that of two requests with one state one is let in."""

    @classmethod
    def use(cls, server_url: str, timestamp: Any, salt: str) -> bool:
        return oauth_state_add(scope=server_url, made_at=int(timestamp), state=salt)

    @classmethod
    def consume(cls, server_url: str, timestamp: int, salt: str) -> bool:
        return oauth_state_consume(scope=server_url, made_at=int(timestamp), state=salt)


class OAuthStorage(BaseStorage):
    """For the strategy. Associations, codes and partial pipelines are OpenID's and others', which we do not offer."""

    user = UserMixin
    nonce = OAuthNonce

    @classmethod
    def is_integrity_error(cls, exception: object) -> bool:  # noqa: ARG003
        return False
