"""What a provider says about a person, and whether the settings allow that person to sign in.

The provider's own id finds the account. An e-mail address never does: even a verified one may be another person's
tomorrow. It only decides whether the first sign-in is allowed, if the settings say so.
"""

from dataclasses import dataclass

from django.conf import settings

# By their names in paths and in the API, with their titles.
PROVIDERS = {"google": "Google", "github": "GitHub"}


@dataclass(frozen=True)
class ProviderIdentity:
    """What a provider says about a person. `email` is one that it has verified, or None.

    `organisations` are GitHub's, each by its login in lower case and by its number.
    """

    provider: str
    subject: str
    email: str | None
    name: str
    organisations: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """The key of `models.Identity`, by which the account is found."""
        return f"{self.provider}#{self.subject}"


def email_normalise(email: str) -> str:
    """The one spelling under which an address is stored and looked up."""
    return email.strip().lower()


def providers_configured() -> dict[str, str]:
    """The providers for which there are credentials, as in PROVIDERS."""
    credentials = {
        "google": (settings.GOOGLE_CLIENT_ID, settings.GOOGLE_CLIENT_SECRET),
        "github": (settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET),
    }
    return {name: title for name, title in PROVIDERS.items() if all(credentials[name])}


def role_allowed(identity: ProviderIdentity) -> str | None:
    """The role that the settings give this person, or None: by address, else by organisation, else by domain."""
    if identity.email and identity.email in settings.ALLOWED_ADDRESSES:
        return str(settings.ALLOWED_ADDRESSES[identity.email])
    for organisation, role in settings.ALLOWED_GITHUB_ORGS.items():
        if organisation in identity.organisations:
            return str(role)
    domain = identity.email.rpartition("@")[2] if identity.email else ""
    return str(settings.ALLOWED_DOMAINS[domain]) if domain in settings.ALLOWED_DOMAINS else None
