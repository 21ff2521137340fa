"""``manage.py audit_seals``: print seals, for an export that can be checked elsewhere."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.management.times import moment
from apps.audit.seals import SealError
from apps.audit.selectors.seals import seal_lines
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Print the seals of the audit trail as JSON Lines. Append them to an export of the same time in JSON Lines: "
        "`audit_verify --export` then checks the file without the database."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="first", type=moment, metavar="TIME", help="a day or a time")
        parser.add_argument("--to", dest="last", type=moment, metavar="TIME", help="a day or a time")

    def handle(self, *args: Any, first: str | None, last: str | None, **options: Any) -> None:
        try:
            for line in seal_lines(first or "", last):
                self.stdout.write(line)
        except (ApplicationError, SealError, ValueError) as error:
            raise CommandError(str(error)) from error
