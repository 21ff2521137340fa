"""What the commands about people share."""

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.policies import Permission
from apps.accounts.selectors import user_by_email
from controlplane.lib.actor import SYSTEM

# Whoever may run commands here may do so: they have the database anyway.
KEEPER = replace(SYSTEM, permissions=frozenset({Permission.ACCOUNTS_MANAGE}))


def person(email: str) -> Any:
    """The person with this address. Raises CommandError."""
    user = user_by_email(email)
    if user is None:
        raise CommandError(f"Nobody has the address {email}.")
    return user
