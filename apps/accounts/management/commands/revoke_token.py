"""``manage.py revoke_token``: revoke an API token."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.users import COMMAND_ACTOR
from apps.accounts.selectors import api_token_get
from apps.accounts.services import api_token_revoke
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = "Revoke an API token. It is refused at once. create_token and GET /tokens show its id."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token_id", help="the id of the token, not the token itself")

    def handle(self, *args: Any, token_id: str, **options: Any) -> None:
        try:
            token = api_token_get(token_id)
            api_token_revoke(token=token, actor=COMMAND_ACTOR)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Revoked the token {token.name}.")
