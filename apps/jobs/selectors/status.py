"""How the parts of the control plane are, for a status page."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from apps.agents.selectors import fleet_counts
from apps.audit.selectors.seals import seal_head
from apps.jobs.models.sweep import LastSweep
from apps.jobs.selectors.queue import queue_figures
from apps.notifications.selectors.outbox import failed_items
from apps.secrets.selectors.rotations import rotations_failed
from apps.sources.selectors import deliveries_due
from controlplane.lib import clock
from controlplane.lib.frozen import frozen

# The sweep is noted each five minutes, and runs each minute.
_SWEEP_LATE = timedelta(minutes=8)
# An event is worked off at once, or by the next sweeps.
_EVENTS_LATE = timedelta(minutes=5)
# Of messages that were given up, "100 or more" are as good as their number.
_MESSAGES_COUNTED = 100


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    # It works, and something needs a user.
    DEGRADED = "degraded"
    FAILING = "failing"


@frozen
class Component:
    """A part of the control plane: its name, how it is, and in a sentence why, or what it does."""

    name: str
    health: Health
    message: str


def status_components() -> list[Component]:
    """All parts. About ten calls, and one for each label set in which jobs may wait, up to a limit.

    That the database answers is shown by the answer. Raises Unavailable when it does not.
    """
    now = clock.now()
    fleet = Counter[str]()
    for statuses in fleet_counts().values():
        fleet.update(statuses)
    return [_sweep(now), *_work(fleet), _events(now), _messages(now), _rotations(), _audit()]


def overall(components: list[Component]) -> Health:
    """The worst of them."""
    found = {component.health for component in components}
    return next(health for health in (Health.FAILING, Health.DEGRADED, Health.OK) if health in found)


def _sweep(now: datetime) -> Component:
    name = "Tasks of each minute"
    row = next(iter(LastSweep.query(LastSweep.KIND, limit=1, consistent_read=True)), None)
    if row is None:
        return Component(name, Health.FAILING, "They have not run yet. Check the schedule that calls manage.py sweep.")
    age = now - clock.parse_timestamp(str(row.at))
    if age > _SWEEP_LATE:
        minutes = f"{age.total_seconds() // 60:.0f}"
        message = f"They ran {minutes} minutes ago. Check the schedule that calls manage.py sweep."
        return Component(name, Health.FAILING, message)
    if row.failed:
        message = f"The last time, these failed: {', '.join(row.failed)}. The log has the reasons."
        return Component(name, Health.DEGRADED, message)
    return Component(name, Health.OK, "They run, and none has failed.")


def _work(fleet: Counter[str]) -> Iterator[Component]:
    """The agents, and the queue that they work off."""
    total, healthy = fleet.total() - fleet["retired"], fleet["healthy"]
    others = [f"{fleet[status]} {status}" for status in ("unhealthy", "dead", "draining") if fleet[status]]
    said = f"{healthy} of {total} are healthy{': ' if others else ''}{', '.join(others)}."
    is_bad = bool(fleet["unhealthy"] or fleet["dead"])
    yield Component("Agents", Health.DEGRADED if is_bad else Health.OK, said if total else "None is enrolled.")
    queue = queue_figures()
    if not queue.depth:
        yield Component("Queue", Health.OK, "No job waits for an agent.")
        return
    count = f"{queue.depth}{' or more' if queue.is_lower_bound else ''}"
    jobs = f"{count} {'job waits' if count == '1' else 'jobs wait'}, the oldest for {queue.oldest_wait_seconds:.0f} s"
    if healthy:
        yield Component("Queue", Health.OK, f"{jobs}.")
    else:
        yield Component("Queue", Health.FAILING, f"{jobs}, and no agent is healthy.")


def _events(now: datetime) -> Component:
    late = len(deliveries_due(now - _EVENTS_LATE))
    if late:
        message = f"{late} {'event has' if late == 1 else 'events have'} waited for more than five minutes."
        return Component("Webhooks", Health.DEGRADED, message)
    return Component("Webhooks", Health.OK, "No event waits.")


def _messages(now: datetime) -> Component:
    failed = len(list(islice(failed_items(now), _MESSAGES_COUNTED)))
    if failed:
        count = f"{failed}{' or more' if failed == _MESSAGES_COUNTED else ''}"
        message = f"{count} could not be delivered since the last month. See Notifications."
        return Component("Messages and checks", Health.DEGRADED, message)
    return Component("Messages and checks", Health.OK, "All were delivered since the last month, or are on their way.")


def _rotations() -> Component:
    failed = sorted(rotations_failed())
    if failed:
        shown = ", ".join(failed[:5]) + (" and others" if len(failed) > 5 else "")
        return Component("Rotations of secrets", Health.DEGRADED, f"The last one has failed of {shown}.")
    return Component("Rotations of secrets", Health.OK, "None has failed.")


def _audit() -> Component:
    head = seal_head()
    if head is None:
        return Component("Audit trail", Health.OK, "It is not sealed yet.")
    until = head.statement.through[:16].replace("T", " ")
    return Component("Audit trail", Health.OK, f"It is sealed up to the last events, of {until} UTC or before.")
