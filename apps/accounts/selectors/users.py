"""Reading users."""

from apps.accounts.models import Identity, User


def user_get(user_id: str) -> User | None:
    """The user with this id, read consistently (one read), or None."""
    return User.find(user_id)


def user_by_email(email: str) -> User | None:
    """The user with this address in any spelling of its case, read consistently (two reads), or None."""
    return User.find_by_email(email)


def user_by_identity(key: str) -> User | None:
    """The user whom a provider's identity (`ProviderIdentity.key`) signs in, read consistently (two reads), or None."""
    identity = Identity.find(key)
    return User.find(identity.user_id) if identity else None
