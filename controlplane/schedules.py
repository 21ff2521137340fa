"""What runs each minute: a list of tasks, and the function that ``events`` in zappa_settings.json names.

The function runs a ``manage.py`` command, so that by hand and by schedule the same is done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management import call_command

from apps.agents.services import retired_agents_delete
from apps.jobs.services import agents_mark, gauges_measure, leases_expire, logs_archive, queue_reconcile, sets_prune
from controlplane.observability.works import observed


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is due each minute. Two processes may run it at the same time.

    `run` returns how many things it changed, and `counts` names them for the command's output. A task that changes
    nothing has no `counts`. `seconds` is the task's share of the 29 s that Lambda gives the sweep: `run` gets it as its
    argument, stops then, and goes on in the next minute. A task without it is quick or limits itself.
    """

    name: str
    run: Callable[..., int | None]
    counts: str | None = None
    seconds: float | None = None

    def __call__(self) -> int | None:
        return self.run() if self.seconds is None else self.run(seconds=self.seconds)


# They run in this order. Object storage may fail when DynamoDB works, and it may be slow, so logs come last.
EACH_MINUTE = (
    Task("agents_mark_silent", agents_mark, "agents marked", seconds=2),
    Task("leases_expire", leases_expire, "jobs taken back", seconds=6),
    Task("gauges_measure", gauges_measure),
    Task("sets_prune", sets_prune, "queues pruned", seconds=1),
    Task("queue_reconcile", queue_reconcile, "queue entries healed", seconds=2),
    Task("retired_agents_delete", retired_agents_delete, "agents deleted", seconds=1),
    Task("logs_archive", logs_archive, "logs stored"),
)


def sweep(_event: dict[str, Any], context: Any) -> None:
    """Run the tasks of each minute, under the id of the Lambda invocation."""
    with observed("sweep", request_id=getattr(context, "aws_request_id", None)):
        call_command("sweep")
