"""Known browsers: a browser that has signed in with a password can prove that later, by a signed cookie.

Failed passwords of strangers then do not lock the owner of an account out of it:
https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

from datetime import timedelta

from django.core import signing

from apps.accounts.identities import email_normalise
from apps.accounts.models import secret_hash
from controlplane.lib.ids import new_id

KNOWN_BROWSER_LIFETIME = timedelta(days=365)
_SALT = "accounts.known-browser"


def known_browser_sign(*, email: str) -> str:
    """The value of a cookie for a browser that has just signed in to the account of this address. It opens no account.

    It contains a new id and a hash of the address, so that it does not show the address.
    """
    return signing.dumps([new_id(), _account(email)], salt=_SALT)


def known_browser_verify(*, value: str, email: str) -> str | None:
    """The id in a cookie that `known_browser_sign` made for this address, in any spelling; None for any other text."""
    try:
        browser_id, account = signing.loads(value, salt=_SALT, max_age=KNOWN_BROWSER_LIFETIME)
    except signing.BadSignature:
        return None
    return str(browser_id) if account == _account(email) else None


def _account(email: str) -> str:
    return secret_hash(email_normalise(email))
