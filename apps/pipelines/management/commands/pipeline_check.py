"""``manage.py pipeline_check``: whether pipeline files are valid."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from agent.pipeline.check import check_files


class Command(BaseCommand):
    help = "Check pipeline files as the control plane reads them. Exits with 1 if one is invalid."
    requires_system_checks: list[str] = []  # noqa: RUF012 — as in Django's class

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a pipeline file, or - for stdin")

    def handle(self, *args: Any, files: list[str], **options: Any) -> None:
        code = check_files(files, out=self.stdout, errors=self.stderr)
        if code:
            sys.exit(code)
