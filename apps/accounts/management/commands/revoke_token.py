"""``manage.py revoke_token``: end an API token."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.people import KEEPER
from apps.accounts.selectors import api_token_get
from apps.accounts.services import api_token_revoke
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = "Revoke an API token, everywhere within 30 seconds. Its id is told when it is made, and by GET /tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token_id", help="its id, not the token itself")

    def handle(self, *args: Any, token_id: str, **options: Any) -> None:
        try:
            token = api_token_get(token_id)
            api_token_revoke(token=token, actor=KEEPER)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{token.name} is revoked.")
