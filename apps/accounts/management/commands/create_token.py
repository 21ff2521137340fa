"""``manage.py create_token``: create an API token of a user."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.users import COMMAND_ACTOR, user_named
from apps.accounts.policies import Permission
from apps.accounts.services import api_token_create
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError
from controlplane.lib.secret_output import secret_output


class Command(BaseCommand):
    help = (
        "Create an API token of a user and print it. Only the token goes to standard output, so that it can be piped "
        "to where you store it. It cannot be printed again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the e-mail address of its owner")
        parser.add_argument("--name", required=True, help="what the token is for")
        parser.add_argument(
            "--permission",
            action="append",
            dest="permissions",
            choices=[permission.value for permission in Permission],
            help="a permission of the token; repeat it for more than one (default: whatever the owner's role allows)",
        )
        parser.add_argument(
            "--days",
            type=int,
            default=90,
            help="for how many days it is valid (default: 90; 0: until it is revoked)",
        )

    def handle(
        self, *args: Any, email: str, name: str, permissions: list[str] | None, days: int, **options: Any
    ) -> None:
        try:
            output = secret_output(self.stdout)
            token, secret = api_token_create(
                user=user_named(email),
                name=name,
                permissions=permissions,
                expires_at=clock.now() + timedelta(days=days) if days else None,
                actor=COMMAND_ACTOR,
            )
        except OverflowError:
            raise CommandError("--days is too large. Use 0 for a token that does not expire.") from None
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stderr.write(f"Created the token {token.name} of {email} with the id {token.token_id}.")
        output.write(f"{secret}\n")
