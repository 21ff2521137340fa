"""What is announced of rotations of secrets: one has failed. The sweep looks at the alarms, if a rule asks for them."""

from datetime import timedelta

from django.conf import settings

from apps.notifications.services import Message, announce
from apps.notifications.states import Occasion
from apps.secrets.selectors.rotations import RotationAlarm, rotation_alarms
from controlplane.lib import clock

# An alarm that is older was announced before, or there was no rule for it.
_TOLD_FOR = timedelta(hours=24)


def rotations_tell() -> int:
    """Tell the targets whose rules ask for it of rotations that have failed. Returns how many messages there are.

    Raises Unavailable.
    """
    since = clock.timestamp(clock.now() - _TOLD_FOR)
    return sum(_tell(alarm) for alarm in rotation_alarms() if alarm.due_at > since)


def _tell(alarm: RotationAlarm) -> int:
    secret_id, at = str(alarm.secret_id), str(alarm.due_at)
    rotation_id = f"{secret_id}.{alarm.failed}"
    message = Message(
        type="rotation.failed",
        headline="Rotation failed",
        subject=secret_id,
        facts=[],
        url=f"{settings.PUBLIC_URL}/dashboard/rotations/{rotation_id}" if settings.PUBLIC_URL else None,
        link="Open the rotation",
        at=at,
        data={"occasion": Occasion.ROTATION_FAILED, "secret_id": secret_id, "rotation_id": rotation_id},
        is_good=False,
    )
    return announce(
        happening=f"rotation {rotation_id}",
        occasion=Occasion.ROTATION_FAILED,
        pipeline=None,
        branch=None,
        message=lambda: message,
    )
