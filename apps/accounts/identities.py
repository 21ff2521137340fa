"""What a provider says about a person, and whether the settings allow that person to sign in.

The provider's own id finds the account. An e-mail address never does: even a verified one may be another person's
tomorrow. It only decides whether the first sign-in is allowed, if the settings say so.
"""

from django.conf import settings

from controlplane.lib.frozen import frozen

# By their names in paths and in the API, with their titles.
PROVIDERS = {"google": "Google", "github": "GitHub"}


@frozen
class ProviderIdentity:
    """What a provider says about a person. `email` is one that it has verified, or None.

    `organisations` are GitHub's, each by its login in lower case and by its number. `hosted_domain` is the domain whose
    Google Workspace manages the account, in lower case: an account at Google can also have the address of a domain
    that does not use Workspace, or that has changed hands. `picture` is the https address of the person's picture.
    """

    provider: str
    subject: str
    email: str | None
    name: str
    organisations: frozenset[str] = frozenset()
    hosted_domain: str | None = None
    picture: str | None = None

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
    """The role that the settings give this person, or None: by address, else by organisation, else by domain.

    A domain counts for an account at Google only if the domain's Workspace manages the account (claim ``hd``):
    https://developers.google.com/identity/openid-connect/openid-connect#hd-param
    """
    if identity.email and identity.email in settings.ALLOWED_ADDRESSES:
        return str(settings.ALLOWED_ADDRESSES[identity.email])
    for organisation, role in settings.ALLOWED_GITHUB_ORGS.items():
        if organisation in identity.organisations:
            return str(role)
    domain = identity.email.rpartition("@")[2] if identity.email else ""
    if identity.provider == "google" and identity.hosted_domain != domain:
        return None
    return str(settings.ALLOWED_DOMAINS[domain]) if domain in settings.ALLOWED_DOMAINS else None
