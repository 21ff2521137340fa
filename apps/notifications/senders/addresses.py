"""Where a target is: its address and its secrets, which are stored encrypted and never shown again."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from apps.notifications.states import TargetKind
from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen
from controlplane.lib.outgoing import outgoing_url_require
from controlplane.lib.webhook_signature import webhook_key

MAX_URL = 2048
MAX_EMAILS = 20
MAX_EMAIL = 254
# One line, one @, and nothing that a header could be ended or quoted with. The server of the address knows the rest.
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")


@frozen
class Address:
    """The address of a target: a URL, or e-mail addresses. `secrets` sign webhooks, the current one first."""

    url: str = ""
    emails: Sequence[str] = ()
    secrets: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """The address as it is stored, encrypted."""
        return {"url": self.url, "emails": list(self.emails), "secrets": list(self.secrets)}

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "Address":
        """The address that `as_json` returned."""
        return cls(**stored)

    @property
    def shown(self) -> str:
        """What lists show of it: the host, or how many e-mail addresses there are."""
        if self.url:
            return str(urlsplit(self.url).hostname)
        return f"{len(self.emails)} e-mail address{'es' if len(self.emails) != 1 else ''}"

    @property
    def hidden(self) -> list[str]:
        """The parts of it that may be in no log: the URL after its host, and the secrets."""
        parts = urlsplit(self.url)
        whole = [self.url, parts.path, parts.query, *self.secrets, *(secret[6:] for secret in self.secrets)]
        pieces = [*parts.path.split("/"), *re.split(r"[&=]", parts.query)]
        return sorted({text for text in [*whole, *pieces] if len(text) >= 6}, key=len, reverse=True)


def address_validate(kind: TargetKind, *, url: str, emails: Sequence[str], secret: str | None) -> Address:
    """The address of a target of this kind. Raises InvalidInput for the fields ``url``, ``emails`` and ``secret``."""
    if kind == TargetKind.EMAIL:
        return Address(emails=_emails_validate(emails))
    if not url or len(url) > MAX_URL:
        raise InvalidInput.field("url", f"must be an https URL of at most {MAX_URL} characters")
    outgoing_url_require(url, field="url")
    if kind != TargetKind.WEBHOOK or secret is None:
        return Address(url=url)
    try:
        webhook_key(secret)
    except ValueError as error:
        raise InvalidInput.field("secret", str(error)) from error
    return Address(url=url, secrets=[secret])


def _emails_validate(emails: Sequence[str]) -> list[str]:
    if not 1 <= len(emails) <= MAX_EMAILS:
        raise InvalidInput.field("emails", f"must be 1 to {MAX_EMAILS} e-mail addresses")
    for email in emails:
        if len(email) > MAX_EMAIL or not _EMAIL.fullmatch(email) or ".." in email:
            raise InvalidInput.field("emails", f"must be e-mail addresses: {email[:60]!r} is none")
    return list(dict.fromkeys(emails))
