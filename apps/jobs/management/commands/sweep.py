"""``manage.py sweep``: find lost agents and jobs, put logs away, tidy the queue. On Lambda a schedule does the same."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.agents.services import agents_mark_silent
from apps.jobs.services import gauges_measure, leases_expire, logs_archive, sets_prune
from controlplane.lib.errors import Unavailable
from controlplane.observability.works import observed


class Command(BaseCommand):
    help = "Mark silent agents, requeue the jobs of lost ones, store the logs of ended jobs, prune empty queues."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--every", type=int, metavar="SECONDS", help="go on for ever, sweeping this often (without: once)"
        )

    def handle(self, *args: Any, every: int | None, **options: Any) -> None:
        while True:
            try:
                self._sweep()
            except Unavailable as error:
                if every is None:
                    raise
                self.stderr.write(error.message)
            if every is None:
                return
            time.sleep(every)

    def _sweep(self) -> None:
        with observed("sweep"):
            done = {"agents marked": agents_mark_silent(), "jobs taken back": leases_expire()}
            gauges_measure()
            done["queues pruned"] = sets_prune()
            # Last, since object storage may be out when all else is well.
            done["logs stored"] = logs_archive()
        self.stdout.write(", ".join(f"{count} {what}" for what, count in done.items()))
