"""Sign-in by a provider: identities, and the states of sign-ins that are under way."""

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class Identity(Record):
    """Which user a provider's identity signs in. The key is ``provider#id``, with the provider's own id.

    `email` is the verified address that the provider gave when the identity was linked; identities of before have none.
    Written in one transaction with `User.identities`.
    """

    class Meta(Record.Meta):
        table_name = table_name("identities")

    identity = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute()
    created_at = UnicodeAttribute()
    email = UnicodeAttribute(null=True)

    @property
    def provider(self) -> str:
        """The provider's name in paths and in the API."""
        return str(self.identity).partition("#")[0]


class OAuthState(Record):
    """A state that a browser took to a provider and has not brought back, by its hash."""

    class Meta(Record.Meta):
        table_name = table_name("oauth-states")

    state_hash = UnicodeAttribute(hash_key=True)
    made_at = NumberAttribute()
    expires_at = TTLAttribute()
