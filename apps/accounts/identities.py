"""Who a provider says that somebody is, and who of them may come in.

People are known by the provider's own id for them. An e-mail address, even a verified one, may be given to somebody
else tomorrow, so it opens the door the first time (if the settings say so) and is never what finds an account.
"""

from dataclasses import dataclass

from django.conf import settings

# By their names in paths and in the API, with what people call them.
PROVIDERS = {"google": "Google", "github": "GitHub"}


@dataclass(frozen=True)
class ProviderIdentity:
    """What a provider said of somebody a moment ago. `email` is one that it has verified, or None.

    `organisations` are GitHub's, each by its login in lower case and by its number.
    """

    provider: str
    subject: str
    email: str | None
    name: str
    organisations: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """What the account is found by."""
        return f"{self.provider}#{self.subject}"


def providers_configured() -> dict[str, str]:
    """The providers by which people can sign in here, as in PROVIDERS."""
    credentials = {
        "google": (settings.GOOGLE_CLIENT_ID, settings.GOOGLE_CLIENT_SECRET),
        "github": (settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET),
    }
    return {name: title for name, title in PROVIDERS.items() if all(credentials[name])}


def role_allowed(identity: ProviderIdentity) -> str | None:
    """The role with which they may come in, or None. An address counts before an organisation, that before a domain."""
    if identity.email and identity.email in settings.ALLOWED_ADDRESSES:
        return str(settings.ALLOWED_ADDRESSES[identity.email])
    for organisation, role in settings.ALLOWED_GITHUB_ORGS.items():
        if organisation in identity.organisations:
            return str(role)
    domain = identity.email.rpartition("@")[2] if identity.email else ""
    return str(settings.ALLOWED_DOMAINS[domain]) if domain in settings.ALLOWED_DOMAINS else None
