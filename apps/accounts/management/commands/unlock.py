"""``manage.py unlock``: end the lock that too many failed sign-ins have caused."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.users import COMMAND_ACTOR
from apps.accounts.services import rate_limits_end
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Let an account, or a client's IP address, sign in again at once after too many failures: its failures count "
        "no longer. Without it the lock ends by itself, after SIGN_IN_WINDOW_SECONDS. Processes that have just refused "
        "it go on for 5 seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", default="", help="the e-mail address of the account")
        parser.add_argument(
            "--address", default="", help="the IP address of the client; with --email also its failures for the account"
        )

    def handle(self, *args: Any, email: str, address: str, **options: Any) -> None:
        if not (email or address):
            raise CommandError("Name what to unlock: --email ADDRESS, --address IP, or both.")
        try:
            rate_limits_end(email=email, address=address, actor=COMMAND_ACTOR)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Unlocked {' and '.join(name for name in (email, address) if name)}.")
