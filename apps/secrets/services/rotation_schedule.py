"""What the sweep does for rotations: it begins those that are due, and goes on with those that have begun."""

import logging
import time

from apps.accounts.policies import Permission
from apps.secrets.models import PLAN
from apps.secrets.selectors.rotations import LATE_AFTER, plan_find, rotations_due, rotations_failed
from apps.secrets.services.rotation_advance import rotation_advance
from apps.secrets.services.rotations import secret_rotate
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict
from controlplane.lib.work import measure

logger = logging.getLogger(__name__)


def rotations_advance(*, seconds: float) -> int:
    """Begin the rotations that are due, and go on with those that have begun, for at most so many seconds and one step.

    Returns how many it looked at. What fails is logged, and tried again by the next sweep.
    """
    until = time.monotonic() + seconds
    found = rotations_due(clock.now())
    count = 0
    for due in found:
        if time.monotonic() >= until:
            break
        count += 1
        try:
            entry = _planned_begin(due.secret_id) if due.entry == PLAN else due.entry
            if entry is not None:
                rotation_advance(secret_id=due.secret_id, entry=entry, until=until)
        except ApplicationError as error:
            logger.warning("The rotation of %s does not get on: %s", due.secret_id, error.message)
    late = clock.timestamp(clock.now() - LATE_AFTER)
    alarming = rotations_failed() | {due.secret_id for due in found if due.due_at <= late}
    if alarming:
        measure(metric_names.ROTATIONS_ALARMING, len(alarming))
        logger.warning("Rotations have failed or are late: %s", ", ".join(sorted(alarming)))
    return count


def _planned_begin(secret_id: str) -> str | None:
    """Begin the rotation that is due by schedule, and return its entry. The index may lag."""
    plan = plan_find(secret_id)
    if plan is None or plan.open or not plan.due_at or plan.due_at > clock.timestamp(clock.now()):
        return None
    name = f"schedule of {secret_id}"
    schedule = Actor("schedule", secret_id, name, frozenset({Permission.SECRETS_MANAGE.value}))
    try:
        return str(secret_rotate(actor=schedule, secret_id=secret_id, due_at=plan.due_at).entry)
    except Conflict as error:
        logger.info("the rotation of %s does not begin: %s", secret_id, error.message)
        return None
