"""``manage.py create_admin``: create the first user of a new control plane."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.passwords import admin_password
from apps.accounts.management.users import COMMAND_ACTOR
from apps.accounts.services import invitation_create, user_create
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError
from controlplane.lib.secret_output import secret_output


class Command(BaseCommand):
    help = (
        "Create a user with the role admin. The password comes from ADMIN_PASSWORD, from standard input, or from a "
        "prompt, but not from the command line, which others on the machine can read. With --invite it prints the end "
        "of a link instead, which works once, for 7 days: the person who opens it becomes the admin."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="Administrator")
        parser.add_argument("--invite", action="store_true", help="print an invitation; the only way on Lambda")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["invite"]:
                self._invite(options["email"])
            else:
                self._create(options["email"], options["name"])
        except ApplicationError as error:
            raise CommandError(error.message) from error

    def _create(self, email: str, name: str) -> None:
        user = user_create(email=email, password=admin_password(), name=name, role="admin", actor=SYSTEM)
        self.stdout.write(f"{user.email} can sign in with the role admin.")

    def _invite(self, email: str) -> None:
        output = secret_output(self.stdout)
        invitation, token = invitation_create(email=email, role="admin", actor=COMMAND_ACTOR)
        self.stderr.write(f"Invited {invitation.email}. The link is the address of the control plane, and:")
        output.write(f"/invitation#{token}\n")
