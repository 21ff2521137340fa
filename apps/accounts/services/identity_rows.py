"""The rows by which providers' identities sign users in."""

from apps.accounts.identities import PROVIDERS, ProviderIdentity
from apps.accounts.models import Identity
from apps.accounts.selectors import identity_get, user_get
from apps.accounts.services.users import MAX_NAME
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction


def identity_add(tx: Transaction, identity: ProviderIdentity, *, user_id: str) -> None:
    """Add the identity to the transaction that adds its key to `User.identities` (label "identity").

    It fails if another request has added the identity. Raises Conflict ``identity_taken`` if it signs in a user.
    """
    existing = identity_get(identity.key)
    if existing is not None and user_get(existing.user_id) is not None:
        raise identity_taken(identity.provider)
    # Its user may have been deleted without it: an older user does not list it.
    condition = Identity.user_id == existing.user_id if existing else None
    row = Identity(identity.key, user_id=user_id, email=identity.email, created_at=clock.timestamp(clock.now()))
    tx.put("identity", row, condition)


def identity_taken(provider: str) -> Conflict:
    """The error for an identity that signs in another user."""
    return Conflict(
        f"This {PROVIDERS[provider]} account signs in another user here. Choose another one.",
        code=ErrorCode.IDENTITY_TAKEN,
    )


def identity_name(identity: ProviderIdentity, email: str) -> str:
    """The provider's name for them, cut to what we accept as a name, or the first part of the address."""
    name = "".join(character for character in identity.name if character.isprintable()).strip()
    return name[:MAX_NAME].strip() or email.partition("@")[0][:MAX_NAME]
