"""Reading users, and how they sign in."""

from collections.abc import Collection, Iterator

from apps.accounts.models import USERS, Identity, User
from controlplane.nosql.listing import Listing


def user_get(user_id: str) -> User | None:
    """The user with this id, read consistently (one read), or None."""
    return User.find(user_id)


def users_find(user_ids: Collection[str]) -> dict[str, User]:
    """The users with these ids, by id, read consistently, 100 a call. Those that do not exist are left out."""
    return {str(user.user_id): user for user in User.find_many(user_ids)}


def user_by_email(email: str) -> User | None:
    """The user with this address in any spelling of its case, read consistently (two reads), or None."""
    return User.find_by_email(email)


def user_by_identity(key: str) -> User | None:
    """The user whom a provider's identity (`ProviderIdentity.key`) signs in, read consistently (two reads), or None."""
    identity = Identity.find(key)
    return User.find(identity.user_id) if identity else None


def user_behind(*, identity: str | None, email: str | None) -> str | None:
    """The id of the user whose account at a provider this is, or None: by the identity, else by the e-mail address.

    An address may be wrong, so this may take something from a user, such as the right to approve their own change, and
    must never give anything. Up to two reads for the identity, and two for the address.
    """
    user = user_by_identity(identity) if identity else None
    if user is None and email and "@" in email:
        user = user_by_email(email)
    return str(user.user_id) if user is not None else None


def identity_get(key: str) -> Identity | None:
    """The identity with this key, read consistently (one read), or None."""
    return Identity.find(key)


def identities_of_user(user: User) -> list[Identity]:
    """The identities that sign the user in, the oldest first (one read)."""
    return sorted(Identity.find_many(user.identities or ()), key=lambda identity: str(identity.created_at))


def users_active(roles: Collection[str]) -> Iterator[User]:
    """The active users of these roles, by an index that lags by moments: check each again in the same write."""
    for batch in Listing(User, User.by_email).batches([USERS]):
        yield from (user for user in batch if user.is_active and user.role in roles)
