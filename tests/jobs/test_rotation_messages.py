"""What messages say of rotations that have failed."""

from datetime import timedelta

from django.core.cache import cache

from apps.notifications.states import Occasion
from apps.secrets.models import RotationAlarm
from controlplane.lib import clock
from tests.metering import dynamodb_calls
from tests.notifications.conftest import deliveries, rule_made, sweep, target_made
from tests.webhooks import Receiver


def failed(secret_id: str, *, hours: int = 0) -> None:
    at = clock.timestamp(clock.now() - timedelta(hours=hours))
    RotationAlarm(secret_id, failed="01m8dvrt5s6h441vyz0gpr7v4c", due_at=at).save()


def test_a_rotation_that_has_failed_is_told_once_to_those_who_ask(hook: Receiver) -> None:
    rule_made(target_made(hook), Occasion.ROTATION_FAILED)
    failed("PYPI_TOKEN")
    failed("OLD_TOKEN", hours=25)
    for _ in range(3):
        sweep()
    (delivery,) = deliveries()
    assert (delivery.message["headline"], delivery.message["subject"]) == ("Rotation failed", "PYPI_TOKEN")
    assert len(hook.requests) == 1


def test_without_a_rule_that_asks_no_alarm_is_read(hook: Receiver) -> None:
    rule_made(target_made(hook), Occasion.FAILED)
    failed("PYPI_TOKEN")
    cache.clear()
    with dynamodb_calls() as metering:
        sweep()
    # The four shards of the outbox, and the rules.
    assert metering.operations == ["Query"] * 5
