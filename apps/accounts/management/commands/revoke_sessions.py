"""``manage.py revoke_sessions``: sign a user out everywhere."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.users import COMMAND_ACTOR, user_named
from apps.accounts.services import sessions_end
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = "End all sessions of a user at once. API tokens stay valid, and the user can sign in again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the e-mail address of the user")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        try:
            sessions_end(actor=COMMAND_ACTOR, user_id=user_named(email).user_id)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Signed {email} out everywhere.")
