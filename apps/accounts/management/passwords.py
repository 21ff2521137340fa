"""Where commands take a password from: never from the command line, and on Lambda from nowhere."""

import getpass
import os
import sys

from django.core.management.base import CommandError

from controlplane.lib.stage_secrets import on_lambda


def password_asked() -> str:
    """One line of standard input, or what is typed twice at a prompt. Raises CommandError."""
    if on_lambda():
        raise CommandError(
            "A command on Lambda can ask for no password. Invite the person, who then sets one: create_admin EMAIL "
            "--invite, or 'Users → Add user' in the admin."
        )
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise CommandError("The two passwords differ.")
    return password


def admin_password() -> str:
    """The password of a new admin: ADMIN_PASSWORD, or as `password_asked`."""
    return os.environ["ADMIN_PASSWORD"] if "ADMIN_PASSWORD" in os.environ else password_asked()
