"""The records of rotations: for each secret a plan, its rotations, and an alarm after a failed one.

All of a secret are one partition. The sweep finds what is due by an index, which lags by moments, and reads it again.
"""

from typing import Any

from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# The range keys of a plan and of an alarm. Those of rotations are ULIDs, which sort before both.
PLAN = "plan"
ALARM = "alarm"
AFTER_ROTATIONS = "8"

# The values of `due`, and so the partitions of the index: plans with a schedule, rotations that have not ended, alarms.
PLANNED = "planned"
OPEN = "open"
RINGING = "ringing"


class RotationsByDue(GlobalSecondaryIndex["RotationPlan"]):
    """What is to be done, by the time from which on it is due."""

    class Meta:
        index_name = "by_due"
        projection = KeysOnlyProjection()

    due = UnicodeAttribute(hash_key=True)
    due_at = UnicodeAttribute(range_key=True)


class RotationPlan(Record):
    """How a secret is rotated, and when. `open` is the entry of its rotation that has not ended: there is one at most.

    A configuration names other secrets, but never has a value.
    """

    class Meta(Record.Meta):
        table_name = table_name("rotations")

    secret_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True, default_for_new=PLAN)
    rotator = UnicodeAttribute()
    rotator_config = CompactJSONAttribute()
    # A list of objects with name, kind and config.
    targets = CompactJSONAttribute()
    # What `apps.secrets.rotation.schedules.Schedule.as_json` returns; null: only by hand.
    schedule = CompactJSONAttribute(null=True)
    overlap_minutes = NumberAttribute()
    # Counts the changes of this configuration.
    revision = NumberAttribute(default=1)
    changed_at = UnicodeAttribute()
    changed_by = UnicodeAttribute()
    open = UnicodeAttribute(null=True)
    # The rotation that began last, when it began, and when the last one made its value current.
    last = UnicodeAttribute(null=True)
    last_began_at = UnicodeAttribute(null=True)
    last_rotated_at = UnicodeAttribute(null=True)
    due = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)

    by_due = RotationsByDue()

    @property
    def overlap_seconds(self) -> int:
        """How long the old value stays valid after the change."""
        return int(self.overlap_minutes) * 60

    @property
    def open_id(self) -> str | None:
        """The id of the rotation that has not ended, or None."""
        return f"{self.secret_id}.{self.open}" if self.open else None


class Rotation(Record):
    """One rotation: its steps, how far it is, and which process goes on with it.

    A process owns it until `owned_until` and then writes with the condition that it still does, and that `revision` is
    what it has read.
    """

    class Meta(Record.Meta):
        table_name = table_name("rotations")

    secret_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)
    # `apps.secrets.states.RotationState`.
    state = UnicodeAttribute()
    # A user or the schedule.
    requested_by = UnicodeAttribute()
    # The configuration at its begin: later changes of the plan do not matter.
    rotator = UnicodeAttribute()
    rotator_config = CompactJSONAttribute()
    targets = CompactJSONAttribute()
    overlap_minutes = NumberAttribute()
    old_version = NumberAttribute()
    new_version = NumberAttribute(null=True)
    # What `apps.secrets.rotation.steps.RotationStep.as_json` returns, in the order of their begin.
    steps: Any = CompactJSONAttribute()
    # Why it is reverted, and what the step that is next waits for.
    reason = UnicodeAttribute(null=True)
    message = UnicodeAttribute(null=True)
    # A user wants it reverted, or wants the old value to end now.
    stop_requested = UnicodeAttribute(null=True)
    is_urgent = BooleanAttribute(null=True)
    # The number of a step that keeps failing, without which an admin wants it to go on.
    given_up = NumberAttribute(null=True)
    began_at = UnicodeAttribute()
    activated_at = UnicodeAttribute(null=True)
    # When clients must have the new value.
    overlap_until = UnicodeAttribute(null=True)
    ended_at = UnicodeAttribute(null=True)
    revision = NumberAttribute(default=0)
    owner = UnicodeAttribute(null=True)
    owned_until = UnicodeAttribute(null=True)
    due = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)

    by_due = RotationsByDue()

    @property
    def rotation_id(self) -> str:
        """The id of the secret, a point, and the entry."""
        return f"{self.secret_id}.{self.entry}"


class RotationAlarm(Record):
    """The last rotation of the secret has failed, and none has succeeded since."""

    class Meta(Record.Meta):
        table_name = table_name("rotations")

    secret_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True, default_for_new=ALARM)
    failed = UnicodeAttribute()
    due = UnicodeAttribute(default=RINGING)
    due_at = UnicodeAttribute()
