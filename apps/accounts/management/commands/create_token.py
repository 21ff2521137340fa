"""``manage.py create_token``: make an API token for a person's program."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.people import KEEPER, person
from apps.accounts.policies import Permission
from apps.accounts.services import api_token_create
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Make an API token of a person, and print it: only the token goes to standard output, so that it can be "
        "piped to where it is kept. It can't be printed again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="of its owner")
        parser.add_argument("--name", required=True, help="what it is for")
        parser.add_argument(
            "--permission",
            action="append",
            dest="permissions",
            choices=[permission.value for permission in Permission],
            help="what it may do; may be given more than once (without: whatever the owner's role allows)",
        )
        parser.add_argument("--days", type=int, default=90, help="how long it is valid (default: 90; 0: for ever)")

    def handle(
        self, *args: Any, email: str, name: str, permissions: list[str] | None, days: int, **options: Any
    ) -> None:
        try:
            token, secret = api_token_create(
                user=person(email),
                name=name,
                permissions=permissions,
                expires_at=clock.now() + timedelta(days=days) if days else None,
                actor=KEEPER,
            )
        except OverflowError:
            raise CommandError("--days is too large") from None
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stderr.write(f"{token.name} of {email} has the id {token.token_id}.")
        self.stdout.write(secret)
