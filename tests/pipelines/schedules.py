"""What tests of schedules share."""

from typing import Any

from apps.pipelines.selectors import Schedule
from apps.pipelines.services import schedule_create
from tests.conftest import OPERATOR

ID = "self.nightly"


def scheduled(pipeline: str = "self", *, name: str = "nightly", cron: str = "H 3 * * *", **members: Any) -> Schedule:
    """A schedule that an operator has made."""
    return schedule_create(actor=OPERATOR, pipeline=pipeline, name=name, cron=cron, **members)
