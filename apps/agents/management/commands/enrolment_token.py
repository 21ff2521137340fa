"""``manage.py enrolment_token``: make a token that enrols new agents."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.policies import Permission
from apps.agents.services import enrolment_token_create
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError
from controlplane.lib.secret_output import secret_output

_BOUNDS = ("name", "labels", "regions", "slots", "deployment_targets")


class Command(BaseCommand):
    help = "Make a token that enrols new agents, and print it. It is not stored: it can't be printed again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="", help="name of the token for lists")
        parser.add_argument("--uses", type=int, default=1, help="how many agents it enrols (default: 1)")
        parser.add_argument("--hours", type=int, default=24, help="how long it is valid (default: 24)")
        for name, what in (
            ("labels", "labels that its agents may have (default: any)"),
            ("regions", "regions that its agents may be in (default: any)"),
            ("deployment-targets", "deployment targets that its agents get (default: none)"),
        ):
            parser.add_argument(f"--{name}", type=_names, default=[], help=f"{what}, separated by commas")
        parser.add_argument("--slots", type=int, help="most slots of its agents (default: any number)")

    def handle(self, *args: Any, uses: int, hours: int, **options: Any) -> None:
        # A user who may run commands has the whole database anyway.
        actor = replace(SYSTEM, permissions=frozenset({Permission.AGENTS_ENROL}))
        try:
            output = secret_output(self.stdout)
            expires_at = clock.now() + timedelta(hours=hours)
            bounds = {name: options[name] for name in _BOUNDS}
            _, secret = enrolment_token_create(uses=uses, expires_at=expires_at, actor=actor, **bounds)
        except OverflowError:
            raise CommandError("--hours is too large") from None
        except ApplicationError as error:
            raise CommandError(error.message) from error
        output.write(f"{secret}\n")


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()
