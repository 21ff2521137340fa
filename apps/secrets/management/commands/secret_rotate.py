"""``manage.py secret_rotate``: rotate a secret now, or end a rotation that cannot."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.secrets.rotation.steps import RotationState
from apps.secrets.selectors.rotations import plan_get, rotation_get
from apps.secrets.services.rotation_advance import rotation_advance
from apps.secrets.services.rotations import is_final, rotation_step_give_up, secret_rotate
from controlplane.lib.actor import SYSTEM
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict

_SECONDS = 60


class Command(BaseCommand):
    help = "Rotate a secret now, print each step, and leave what has to wait to the sweep."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("secret_id", help="the id of the secret, such as DATABASE_URL")

        parser.add_argument(
            "--give-up",
            action="store_true",
            help="begin none: go on with the open one without the step that keeps failing, because its system is gone",
        )

    def handle(self, *args: Any, secret_id: str, give_up: bool, **options: Any) -> None:
        try:
            rotation_id = (
                _given_up(secret_id) if give_up else secret_rotate(actor=SYSTEM, secret_id=secret_id).rotation_id
            )
            entry = rotation_id.rpartition(".")[2]
            rotation_advance(secret_id=secret_id, entry=entry, until=time.monotonic() + _SECONDS)
            rotation = rotation_get(rotation_id)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Rotation {rotation.rotation_id}")
        for step in rotation.steps:
            if step.get("begun_at"):
                state = "done" if step.get("done_at") else step.get("message") or "not done yet"
                self.stdout.write(f"{step['begun_at']} {step['act']} of {step['system']}: {state}")
        if rotation.reason and not give_up:
            raise CommandError(f"It is reverted, and the old value stays current: {rotation.reason}")
        if rotation.state == RotationState.OVERLAP:
            self.stdout.write(f"The new value is current. The old one is valid until {rotation.overlap_until}.")
        elif is_final(rotation):
            self.stdout.write(f"It has ended: {rotation.state}.")
        else:
            self.stdout.write(f"The sweep goes on with it: {rotation.message or rotation.state}")


def _given_up(secret_id: str) -> str:
    rotation_id = plan_get(secret_id).open_id
    if rotation_id is None:
        raise Conflict("No rotation of this secret goes on.", code=ErrorCode.ROTATION_STATE)
    rotation_step_give_up(actor=SYSTEM, rotation_id=rotation_id)
    return rotation_id
