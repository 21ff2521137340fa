"""What runs each minute: a list of tasks, and the function that ``events`` in zappa_settings.json names.

The function runs a ``manage.py`` command, so that by hand and by schedule the same is done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management import call_command

from apps.jobs.services import agents_mark, gauges_measure, leases_expire, logs_archive, sets_prune
from controlplane.observability.works import observed


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is due each minute. Two processes may run it at the same time.

    `run` returns how many things it changed, and `counts` names them for the command's output. A task that changes
    nothing has no `counts`.
    """

    name: str
    run: Callable[[], int | None]
    counts: str | None = None


# They run in this order. Object storage may fail when DynamoDB works, and it may be slow, so logs come last.
EACH_MINUTE = (
    Task("agents_mark_silent", agents_mark, "agents marked"),
    Task("leases_expire", leases_expire, "jobs taken back"),
    Task("gauges_measure", gauges_measure),
    Task("sets_prune", sets_prune, "queues pruned"),
    Task("logs_archive", logs_archive, "logs stored"),
)


def sweep(_event: dict[str, Any], context: Any) -> None:
    """Run the tasks of each minute, under the id of the Lambda invocation."""
    with observed("sweep", request_id=getattr(context, "aws_request_id", None)):
        call_command("sweep")
