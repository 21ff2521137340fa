"""What the commands about users share."""

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.policies import Permission
from apps.accounts.selectors import user_by_email
from controlplane.lib.actor import SYSTEM

# A person who can run commands here has access to the database anyway.
COMMAND_ACTOR = replace(SYSTEM, permissions=frozenset({Permission.ACCOUNTS_MANAGE}))


def user_named(email: str) -> Any:
    """The user with this address. Raises CommandError."""
    user = user_by_email(email)
    if user is None:
        raise CommandError(f"No user has the address {email}.")
    return user
