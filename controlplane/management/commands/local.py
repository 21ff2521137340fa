"""``manage.py local``: the whole product on this machine."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.local.errors import LocalError
from controlplane.local.supervisor import Options, Supervisor


class Command(BaseCommand):
    help = "Run the control plane, its database and agents on this machine until Ctrl-C, out of reach of others."
    # It needs no settings of its own: it makes those of the processes it starts.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the web server; 0: any free one (default: 8000)")
        parser.add_argument("--agents", type=int, default=1, help="how many agents to start (default: 1)")
        parser.add_argument(
            "--state-dir", type=Path, default=settings.BASE_DIR / ".local", help="where data is kept (default: .local)"
        )
        parser.add_argument("--reload", action="store_true", help="restart the server when code or a template changes")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["agents"] < 0:
            raise CommandError("--agents: 0 or more")
        wanted = Options(
            folder=settings.BASE_DIR,
            state_dir=options["state_dir"],
            port=options["port"],
            agents=options["agents"],
            reload=options["reload"],
        )
        try:
            Supervisor(wanted, self._say).run()
        except LocalError as error:
            raise CommandError(str(error)) from error

    def _say(self, text: str) -> None:
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except OSError:
            # The terminal is gone; its SIGHUP ends us in order.
            return
