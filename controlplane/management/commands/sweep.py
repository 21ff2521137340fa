"""``manage.py sweep``: run the tasks of `controlplane.schedules`. On Lambda a schedule runs this command."""

import logging
import time
from argparse import ArgumentTypeError
from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.jobs.services.sweeps import sweep_note
from controlplane import schedules
from controlplane.lib.errors import Unavailable
from controlplane.observability.works import observed

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Mark silent agents, requeue the jobs of lost ones, heal and prune queues, store the logs of ended jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--every", type=_seconds, metavar="SECONDS", help="go on for ever, sweeping this often (without: once)"
        )

    def handle(self, *args: Any, every: int | None, **options: Any) -> None:
        while True:
            try:
                with observed("sweep"):
                    self._sweep()
            except Unavailable as error:
                if every is None:
                    raise
                self.stderr.write(error.message)
            if every is None:
                return
            time.sleep(every)

    def _sweep(self) -> None:
        """Run each task, whatever becomes of those before it. Raises the first failure at the end."""
        done: list[str] = []
        failed: list[str] = []
        first: Exception | None = None
        began, shared = monotonic(), 0.0
        for task in schedules.EACH_MINUTE:
            try:
                count = task(left=max(0.0, shared - (monotonic() - began)))
            except Exception as failure:
                failure.add_note(f"This was the task {task.name}.")
                failed.append(task.name)
                if first is None:
                    # `observed` logs what is raised.
                    first = failure
                else:
                    logger.exception("%s failed", task.name, extra={"code": getattr(failure, "code", None)})
            else:
                if task.counts:
                    done.append(f"{count} {task.counts}")
            shared += task.seconds or 0.0
        if done:
            self.stdout.write(", ".join(done))
        try:
            sweep_note(failed=failed)
        except Unavailable:
            # The tasks have failed for the same reason, and the alarm for a sweep that stops rings without this.
            logger.warning("The sweep could not be noted.", exc_info=True)
        if first is not None:
            raise first


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number of seconds, at least 1, not {text!r}")
    return int(text)
