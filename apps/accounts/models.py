"""People, what makes their addresses unique, their programs' tokens and their sessions."""

import hashlib
from datetime import datetime
from typing import Any, Self

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.utils.crypto import salted_hmac
from pynamodb.attributes import (
    BooleanAttribute,
    ListAttribute,
    NumberAttribute,
    TTLAttribute,
    UnicodeAttribute,
)
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing
from controlplane.nosql.record import Record, table_name


def secret_hash(secret: str) -> str:
    """SHA-256 in hexadecimal: what is stored instead of a token, and the key by which its item is found.

    Our tokens are random and long, so no salt and no slow hash is needed. As the item is found by the hash of what the
    client sent, nothing secret is ever compared, so there is no comparison whose time could tell something.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class AccountClaim(Record):
    """Who has a name that only one may have, such as an e-mail address. Written in one transaction with its owner."""

    class Meta(Record.Meta):
        table_name = table_name("account-claims")

    claim = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute()

    @staticmethod
    def of_email(email: str) -> str:
        """The claim on an e-mail address that `email_normalise` has made."""
        return f"email#{email}"


def email_normalise(email: str) -> str:
    """The one spelling under which an address is stored and looked up."""
    return email.strip().lower()


# The one partition of the indexes that list people, and of the one that lists tokens: docs/decisions/0006
USERS = "users"
API_TOKENS = "api-tokens"


class UsersByEmail(GlobalSecondaryIndex["User"]):
    """Everybody, by e-mail address. Rewritten only when somebody is made."""

    class Meta:
        index_name = "by_email"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    email = UnicodeAttribute(range_key=True)


class UsersByName(GlobalSecondaryIndex["User"]):
    """Everybody, by name without regard to case."""

    class Meta:
        index_name = "by_name"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    name_key = UnicodeAttribute(range_key=True)


class User(Record):
    """A person.

    `password` is a hash by Django's hashers. `session_epoch` is part of every session's hash, so that raising it ends
    all sessions of the person at once.
    """

    class Meta(Record.Meta):
        table_name = table_name("users")

    user_id = UnicodeAttribute(hash_key=True)
    email = UnicodeAttribute()
    name = UnicodeAttribute()
    role = UnicodeAttribute()
    password = UnicodeAttribute()
    is_active = BooleanAttribute(default=True)
    session_epoch = NumberAttribute(default=0)
    created_at = UnicodeAttribute()
    last_login_at = UnicodeAttribute(null=True)
    # Counts what people have changed in the account.
    revision = NumberAttribute(default=0)
    registry = UnicodeAttribute(default=USERS)
    # `controlplane.nosql.listing.search_key` of the name.
    name_key = UnicodeAttribute()

    by_email = UsersByEmail()
    by_name = UsersByName()

    @classmethod
    def find_by_email(cls, email: str) -> Self | None:
        """The person with this address, read consistently (two reads: the claim, then the person), or None."""
        claim = AccountClaim.find(AccountClaim.of_email(email_normalise(email)))
        return cls.find(claim.user_id) if claim else None


class _TokensOfUser(GlobalSecondaryIndex["ApiToken"]):
    class Meta:
        index_name = "by_user"
        projection = IncludeProjection(["token_id", "name", "permissions", "expires_at", "last_used_at"])

    user_id = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class _TokenById(GlobalSecondaryIndex["ApiToken"]):
    """A token by the id that may be told. Never rewritten."""

    class Meta:
        index_name = "by_id"
        projection = KeysOnlyProjection()

    token_id = UnicodeAttribute(hash_key=True)


class TokensByName(GlobalSecondaryIndex["ApiToken"]):
    """All tokens, by name without regard to case."""

    class Meta:
        index_name = "by_name"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    name_key = UnicodeAttribute(range_key=True)


class ApiToken(Record):
    """What a person's program shows in their place. `permissions` None means all that the owner's role allows."""

    class Meta(Record.Meta):
        table_name = table_name("api-tokens")

    token_hash = UnicodeAttribute(hash_key=True)
    token_id = UnicodeAttribute()
    user_id = UnicodeAttribute()
    name = UnicodeAttribute()
    permissions: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, null=True)
    created_at = UnicodeAttribute()
    expires_at = TTLAttribute(null=True)
    last_used_at = UnicodeAttribute(null=True)

    registry = UnicodeAttribute(default=API_TOKENS)
    name_key = UnicodeAttribute()

    by_user = _TokensOfUser()
    by_id = _TokenById()
    by_name = TokensByName()

    def expired(self, now: datetime) -> bool:
        """Whether its time is over; DynamoDB deletes expired items late."""
        return self.expires_at is not None and self.expires_at <= now


class _SessionsOfUser(GlobalSecondaryIndex["Session"]):
    """My devices. Neither the data nor anything that opens a session is ever projected."""

    class Meta:
        index_name = "by_user"
        projection = IncludeProjection(["provider", "expires_at"])

    user_id = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class Session(Record):
    """A session. Its key is the hash of the token: who reads the table can't take a session over.

    `revision` is another random text after each write, `user_id` is absent until someone signs in. `device_id` names
    the session to its person and opens nothing. `subject` is the id that the provider knows the person by, where the
    session was made for the frontend. `expires_at` moves with `last_seen_at`, up to the absolute limit.
    """

    class Meta(Record.Meta):
        table_name = table_name("sessions")

    session_id = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute(null=True)
    provider = UnicodeAttribute(null=True)
    subject = UnicodeAttribute(null=True)
    device_id = UnicodeAttribute(null=True)
    device = UnicodeAttribute(null=True)
    address = UnicodeAttribute(null=True)
    region = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    last_seen_at = UnicodeAttribute(null=True)
    expires_at = TTLAttribute()
    revision = UnicodeAttribute()
    data = UnicodeAttribute()

    by_user = _SessionsOfUser()


class Identity(Record):
    """Whose account an identity at a provider opens: the key is ``provider#id``, with the provider's own id."""

    class Meta(Record.Meta):
        table_name = table_name("identities")

    identity = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute()
    created_at = UnicodeAttribute()


class OAuthState(Record):
    """A state that a browser took to a provider and has not brought back, by its hash."""

    class Meta(Record.Meta):
        table_name = table_name("oauth-states")

    state_hash = UnicodeAttribute(hash_key=True)
    made_at = NumberAttribute()
    expires_at = TTLAttribute()


class RateLimitWindow(Record):
    """How often something was tried in a window of time. The key names what, who and when."""

    class Meta(Record.Meta):
        table_name = table_name("rate-limits")

    window = UnicodeAttribute(hash_key=True)
    tries = NumberAttribute(default=0)
    expires_at = TTLAttribute()


class UserFacade(Facade, AbstractBaseUser, record=User):
    """A person as ``django.contrib.auth`` sees one: AUTH_USER_MODEL ``accounts.User``."""

    email = models.EmailField(unique=True)
    # The record's name for it is `last_login_at`, and sign-in writes it together with the audit trail.
    last_login = None

    USERNAME_FIELD = "email"
    unique_lookups = {"email": User.find_by_email}  # noqa: RUF012 — declared as ClassVar in the base
    listings = (
        Listing(User, User.by_email, lambda _asked: [USERS], filters={"role", "is_active"}),
        Listing(User, User.by_name, lambda _asked: [USERS], filters={"role", "is_active"}),
    )

    class Meta(Facade.Meta):
        verbose_name = "user"

    def get_session_auth_hash(self) -> str:
        """Changes with the password and with the session epoch, and a session that carries another one is over."""
        return self._get_session_auth_hash()

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        held = f"{int(self.session_epoch)}:{self.password}"  # type: ignore[attr-defined]
        return salted_hmac("accounts.session", held, secret=secret, algorithm="sha256").hexdigest()
