"""The record of a schedule: when runs of a pipeline start by themselves."""

from typing import Any

from pynamodb.attributes import BooleanAttribute, ListAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# Schedules are few (some for each pipeline), so one partition holds and lists them all.
SPACE = "default"

# The value of `due`, and so the only partition of the index. A paused schedule is not in it.
DUE = "due"


class SchedulesByDue(GlobalSecondaryIndex["Schedule"]):
    """The schedules that start runs, by their next time."""

    class Meta:
        index_name = "by_due"
        projection = KeysOnlyProjection()

    due = UnicodeAttribute(hash_key=True)
    due_at = UnicodeAttribute(range_key=True)


class Schedule(Record):
    """When runs of a pipeline start, and which. Its id is the pipeline's name, a point, and its own name."""

    class Meta(Record.Meta):
        table_name = table_name("schedules")

    space = UnicodeAttribute(hash_key=True, default_for_new=SPACE)
    schedule_id = UnicodeAttribute(range_key=True)
    pipeline = UnicodeAttribute()
    name = UnicodeAttribute()
    # As users wrote it, with H.
    cron = UnicodeAttribute()
    zone = UnicodeAttribute()
    # Null: the pipeline's default ref at that time.
    git_ref = UnicodeAttribute(null=True)
    parameters = CompactJSONAttribute(null=True)
    only_if_changed = BooleanAttribute(default=False)
    # Counts the changes by users.
    revision = NumberAttribute(default=1)
    paused_at = UnicodeAttribute(null=True)
    paused_by = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    created_by = UnicodeAttribute()
    changed_at = UnicodeAttribute()
    changed_by = UnicodeAttribute()

    # The last time that was due, and the run that it started; the newest runs, the newest one first.
    last_due_at = UnicodeAttribute(null=True)
    last_run_id = UnicodeAttribute(null=True)
    run_ids: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # Why the last time that was due started no run; null if it did.
    problem = UnicodeAttribute(null=True)
    # The next time; null while it is paused.
    due = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)

    by_due = SchedulesByDue()
