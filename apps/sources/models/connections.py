"""The record of a connection to a provider of repositories: GitHub, GitLab, Gitea or any other."""

from pynamodb.attributes import NumberAttribute, UnicodeAttribute

from controlplane.lib.envelope import decrypt
from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# There is one space of connections; teams would each get their own.
SPACE = "default"


class Connection(Record):
    """A connection. There are few (one for each provider or repository), so one partition holds and lists them all.

    The attributes `encrypted_…` are never shown. Each is bound to its connection and attribute by `secret_context`.
    """

    class Meta(Record.Meta):
        table_name = table_name("connections")

    space = UnicodeAttribute(hash_key=True, default_for_new=SPACE)
    # As users chose it: it is part of the webhook's path, and pipelines name it.
    connection_id = UnicodeAttribute(range_key=True)
    # `apps.sources.states.ProviderName`.
    provider = UnicodeAttribute()
    # For people.
    name = UnicodeAttribute()
    # Where its API and its pages are, without a slash at the end; null where it has none.
    api_url = UnicodeAttribute(null=True)
    web_url = UnicodeAttribute(null=True)
    # With which the provider signs webhooks. The one before it is accepted until its time.
    encrypted_webhook_secret = UnicodeAttribute(null=True)
    encrypted_previous_webhook_secret = UnicodeAttribute(null=True)
    previous_webhook_secret_until = UnicodeAttribute(null=True)
    webhook_secret_changed_at = UnicodeAttribute(null=True)
    # With which we call the provider's API.
    encrypted_token = UnicodeAttribute(null=True)
    # Of a GitHub App.
    encrypted_private_key = UnicodeAttribute(null=True)
    app_id = UnicodeAttribute(null=True)
    app_slug = UnicodeAttribute(null=True)
    # When the last look for missed deliveries began, and up to when none is missing.
    reconcile_began_at = UnicodeAttribute(null=True)
    reconciled_until = UnicodeAttribute(null=True)
    # Small facts of the provider that only its own modules know.
    facts = CompactJSONAttribute(null=True)
    # When a webhook with a wrong signature came last, and why it was refused: at most one a minute is noted.
    refused_at = UnicodeAttribute(null=True)
    refused_because = UnicodeAttribute(null=True)
    # Counts the changes by users.
    revision = NumberAttribute(default=1)
    created_at = UnicodeAttribute()
    created_by = UnicodeAttribute()
    changed_at = UnicodeAttribute()
    changed_by = UnicodeAttribute()

    def secret(self, attribute: str) -> str | None:
        """What an attribute ``encrypted_…`` has, decrypted, by its name without ``encrypted_``. None if it is empty.

        Raises DecryptionFailed, and Unavailable when KMS does not answer.
        """
        encrypted = getattr(self, f"encrypted_{attribute}")
        if not encrypted:
            return None
        return decrypt(encrypted, context=secret_context(str(self.connection_id), attribute)).decode()


def secret_context(connection_id: str, attribute: str) -> tuple[str, ...]:
    """The place to which a secret of a connection is bound when it is encrypted."""
    return ("connection", connection_id, attribute)
