"""``manage.py create_admin``: create the first user of a new control plane."""

import getpass
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.services import user_create
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Create a user with the role admin. The password comes from ADMIN_PASSWORD, from standard input, or from a "
        "prompt, but not from the command line, which others on the machine can read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="Administrator")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = user_create(
                email=options["email"], password=_password(), name=options["name"], role="admin", actor=SYSTEM
            )
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{user.email} can sign in with the role admin.")


def _password() -> str:
    if "ADMIN_PASSWORD" in os.environ:
        return os.environ["ADMIN_PASSWORD"]
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise CommandError("The two passwords differ.")
    return password
