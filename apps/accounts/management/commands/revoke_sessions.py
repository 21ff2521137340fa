"""``manage.py revoke_sessions``: sign a person out everywhere."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.people import KEEPER, person
from apps.accounts.services import sessions_end
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = "Sign a person out everywhere, at once. API tokens stay as they are, and the person may sign in again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        try:
            sessions_end(actor=KEEPER, user_id=person(email).user_id)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{email} is signed out everywhere.")
