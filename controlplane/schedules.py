"""What runs each minute: a list of tasks, and the function that ``events`` in zappa_settings.json names.

The function runs a ``manage.py`` command, so that by hand and by schedule the same is done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.management import call_command

from apps.agents.services import retired_agents_delete
from apps.audit.services.holds import holds_copy
from apps.audit.services.sealing import audit_seal, audit_seals_copy
from apps.audit.services.shipping import audit_ship
from apps.jobs.services import (
    agents_mark,
    events_work,
    gauges_measure,
    leases_expire,
    logs_archive,
    outbox_work,
    queue_reconcile,
    runs_advance,
    schedules_start,
    sets_prune,
)
from apps.jobs.services.uploads import stored_files_expire
from apps.secrets.services.rotation_schedule import rotations_advance
from controlplane.observability.works import observed


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is due each minute. Two processes may run it at the same time.

    `run` returns how many things it changed, and `counts` names them for the command's output. A task that changes
    nothing has no `counts`. `seconds` is the task's share of the 29 s that Lambda gives the sweep: `run` gets it as its
    argument, stops then, and goes on in the next minute. A task without it is quick or limits itself. A task that
    `takes_rest` gets, besides its share, what those before it have left of theirs.
    """

    name: str
    run: Callable[..., int | None]
    counts: str | None = None
    seconds: float | None = None
    takes_rest: bool = False

    def __call__(self, *, left: float = 0.0) -> int | None:
        """Run it; `left` are the seconds that the tasks before it have left."""
        if self.seconds is None:
            return self.run()
        return self.run(seconds=self.seconds + (left if self.takes_rest else 0.0))


def _identity_keys_rotate() -> int:
    if settings.SIGNING_KEY_IDS:
        return 0
    # Where keys are in KMS, no sweep shall load what files need.
    from apps.secrets.services.identity_keys import identity_keys_rotate

    return identity_keys_rotate()


def _deliveries_reconcile(*, seconds: float) -> int:
    # Only what asks providers loads the client of their APIs.
    from apps.sources.services.missed_deliveries import deliveries_reconcile

    return deliveries_reconcile(seconds=seconds)


# They run in this order. Object storage may fail when DynamoDB works, and it may be slow, so what it stores comes late.
# What asks GitHub, rotations and the outbox call systems of other people, so they come last.
EACH_MINUTE = (
    Task("agents_mark_silent", agents_mark, "agents marked", seconds=1),
    Task("leases_expire", leases_expire, "jobs taken back", seconds=2.5),
    Task("runs_advance", runs_advance, "runs advanced", seconds=1.5),
    Task("schedules_start", schedules_start, "runs started", seconds=1),
    Task("events_work", events_work, "events worked off", seconds=0.5),
    Task("gauges_measure", gauges_measure),
    Task("sets_prune", sets_prune, "queues pruned", seconds=0.5),
    Task("queue_reconcile", queue_reconcile, "queue entries healed", seconds=1),
    Task("retired_agents_delete", retired_agents_delete, "agents deleted", seconds=0.5),
    Task("identity_keys_rotate", _identity_keys_rotate, "identity keys replaced"),
    Task("stored_files_expire", stored_files_expire, "expired files deleted", seconds=0.5),
    Task("audit_seal", audit_seal, "audit events sealed", seconds=1),
    Task("holds_copy", holds_copy, "audit events held", seconds=0.5),
    Task("logs_archive", logs_archive, "logs stored"),
    Task("audit_seals_copy", audit_seals_copy, "seals stored", seconds=0.5),
    # It may wait for others' servers.
    Task("audit_ship", audit_ship, "audit events sent", seconds=0.5),
    Task("deliveries_reconcile", _deliveries_reconcile, "missed webhooks taken in", seconds=0.5),
    Task("rotations_advance", rotations_advance, "rotations advanced", seconds=1),
    Task("outbox_work", outbox_work, "messages handled", seconds=1, takes_rest=True),
)


def sweep(_event: dict[str, Any], context: Any) -> None:
    """Run the tasks of each minute, under the id of the Lambda invocation."""
    with observed("sweep", request_id=getattr(context, "aws_request_id", None)):
        call_command("sweep")
