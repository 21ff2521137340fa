"""What the sweep does for the outbox: each topic has the function that works its items off."""

from collections.abc import Callable
from importlib import import_module

from apps.jobs.states import RunStatus
from apps.notifications.selectors.outbox import OutboxItem
from apps.notifications.selectors.targets import rules_ask
from apps.notifications.services import outbox_run
from apps.notifications.states import Occasion, Topic
from controlplane.lib.errors import NotFound

# By the topic: the module and the name of its function, which is imported when there is an item for it.
_HANDLERS: dict[Topic, tuple[str, str]] = {
    Topic.CHECKS: ("apps.jobs.services.checks", "checks_send"),
    Topic.RUN: ("apps.jobs.services.announcements", "run_announce"),
    Topic.DEPLOYMENT: ("apps.jobs.services.deployment_messages", "deployment_tell"),
    Topic.DELIVERY: ("apps.notifications.services.deliveries", "delivery_send"),
}


def outbox_work(*, seconds: float) -> int:
    """Work off the outbox for at most so many seconds. Returns how many items are done. Raises Unavailable.

    Then it looks at rotations that have failed, if a rule asks for them: secrets know nothing of the outbox.
    """
    done = outbox_run({topic.value: _handler(*place) for topic, place in _HANDLERS.items()}, seconds=seconds)
    if rules_ask(Occasion.ROTATION_FAILED):
        from apps.jobs.services.rotation_messages import rotations_tell

        rotations_tell()
    return done


def _handler(module: str, name: str) -> Callable[[OutboxItem], None]:
    def handle(item: OutboxItem) -> None:
        getattr(import_module(module), name)(item)

    return handle


def run_announce(item: OutboxItem) -> None:
    """Tell the targets whose rules ask for it that a run has ended. A run that is gone has nothing to tell.

    Raises Unavailable.
    """
    from apps.jobs.services.run_messages import run_message
    from apps.notifications.services.announcing import CANCELLED, FAILED, SUCCEEDED, RunEnd, run_end_announce

    fact, result = item.fact, RunStatus(item.fact["result"])
    results = {RunStatus.COMPLETED: SUCCEEDED, RunStatus.FAILED: FAILED, RunStatus.CANCELLED: CANCELLED}
    end = RunEnd(
        happening=f"run {fact['run_id']} {fact['ended_at']}",
        run_id=fact["run_id"],
        pipeline=fact["pipeline"],
        git_ref=fact["git_ref"],
        result=results[result],
        ended_at=fact["ended_at"],
    )
    try:
        run_end_announce(
            end,
            message=lambda occasion: run_message(end.run_id, occasion=occasion, result=result, ended_at=end.ended_at),
        )
    except NotFound:
        return
