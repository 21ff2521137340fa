"""``manage.py set_password``: give a user a new password."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.passwords import password_asked
from apps.accounts.management.users import COMMAND_ACTOR, user_named
from apps.accounts.services import user_password_set
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Give a user a new password, and end all their sessions at once. The password comes from standard input, or "
        "from a prompt, but not from the command line, which others on the machine can read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the e-mail address of the user")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        user = user_named(email)
        try:
            user_password_set(
                user_id=user.user_id, password=password_asked(), revision=user.revision, actor=COMMAND_ACTOR
            )
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{user.email} has the new password, and was signed out everywhere.")
