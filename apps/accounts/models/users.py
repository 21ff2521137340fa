"""Users, and the claims that keep their e-mail addresses unique."""

from collections.abc import Collection
from typing import Self

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import verify_password
from django.db import models
from django.utils.crypto import salted_hmac
from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute
from pynamodb.expressions.condition import Condition, size
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from apps.accounts.identities import email_normalise
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing
from controlplane.nosql.record import Record, table_name


class AccountClaim(Record):
    """Which user has a unique name, such as an e-mail address. Written in one transaction with its user."""

    class Meta(Record.Meta):
        table_name = table_name("account-claims")

    claim = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute()

    @staticmethod
    def of_email(email: str) -> str:
        """The claim on an e-mail address that `email_normalise` has returned."""
        return f"email#{email}"


# The one partition of the indexes that list users: docs/decisions/0006
USERS = "users"


class UsersByEmail(GlobalSecondaryIndex["User"]):
    """All users, by e-mail address. An entry is written once, when its user is created."""

    class Meta:
        index_name = "by_email"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    email = UnicodeAttribute(range_key=True)


class UsersByName(GlobalSecondaryIndex["User"]):
    """All users, by name without regard to case."""

    class Meta:
        index_name = "by_name"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    name_key = UnicodeAttribute(range_key=True)


class User(Record):
    """A person who has an account.

    `password` is a hash by Django's hashers. `session_epoch` is part of every session's hash, so raising it ends all
    sessions of the user at once; `sessions_ended_at` is when the user was last signed out everywhere. `revision` counts
    the changes of the account. `name_key` is `controlplane.nosql.listing.search_key` of the name. `identities` are the
    keys of the providers' identities that sign the user in; of an older user, only those with which they have signed in
    since. An `invited` user was admitted by an admin, so the ALLOWED_… settings do not decide about them.
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
    sessions_ended_at = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    last_login_at = UnicodeAttribute(null=True)
    revision = NumberAttribute(default=0)
    registry = UnicodeAttribute(default=USERS)
    name_key = UnicodeAttribute()
    identities = UnicodeSetAttribute(null=True)
    invited = BooleanAttribute(default=False)

    by_email = UsersByEmail()
    by_name = UsersByName()

    @classmethod
    def may_link(cls, *, at_most: int) -> Condition:
        """The condition that the user is active and has fewer than this many identities."""
        condition: Condition = cls._active() & (cls.identities.does_not_exist() | (size(cls.identities) < at_most))
        return condition

    @classmethod
    def is_one_of(cls, roles: Collection[str]) -> Condition:
        """The condition that the user is active and has one of these roles."""
        condition: Condition = cls._active() & cls.role.is_in(*sorted(roles))
        return condition

    @classmethod
    def _active(cls) -> Condition:
        active: Condition = cls.is_active == True  # noqa: E712 — an expression, not a comparison
        return active

    @classmethod
    def find_by_email(cls, email: str) -> Self | None:
        """The user with this address, read consistently (two reads: the claim, then the user), or None.

        It is here, and not among the selectors, because the facade below finds users by it for ``django.contrib.auth``.
        """
        claim = AccountClaim.find(AccountClaim.of_email(email_normalise(email)))
        return cls.find(claim.user_id) if claim else None


class UserFacade(Facade, AbstractBaseUser, record=User):
    """A user as ``django.contrib.auth`` sees one: AUTH_USER_MODEL ``accounts.User``."""

    email = models.EmailField(unique=True)
    # The record calls it `last_login_at`, and sign-in writes it together with the audit event.
    last_login = None

    USERNAME_FIELD = "email"
    unique_lookups = {"email": User.find_by_email}  # noqa: RUF012 — declared as ClassVar in the base
    listings = (
        Listing(User, User.by_email, lambda _asked: [USERS], filters={"role", "is_active"}),
        Listing(User, User.by_name, lambda _asked: [USERS], filters={"role", "is_active"}),
    )

    class Meta(Facade.Meta):
        verbose_name = "user"

    def check_password(self, raw_password: str | None) -> bool:
        """Whether this is the user's password. Django's own method also writes a hash that it renews; we do not."""
        return verify_password(raw_password, self.password)[0]

    def get_session_auth_hash(self) -> str:
        """Changes with the password and with the session epoch; a session with another hash has ended."""
        return self._get_session_auth_hash()

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        state = f"{int(self.session_epoch)}:{self.password}"  # type: ignore[attr-defined]
        return salted_hmac("accounts.session", state, secret=secret, algorithm="sha256").hexdigest()
