"""The job: the truth about one unit of work."""

from typing import Any

from pynamodb.attributes import BooleanAttribute, JSONAttribute, ListAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from controlplane.lib.ids import id_moment
from controlplane.nosql.record import Record, table_name

# The value of `Job.open`, and so the one partition of `ByOpen`. It does not grow with time: a job leaves it when it has
# ended and its log is stored.
OPEN = "open"

# These never change, so that a job's later updates cost nothing in the indexes that carry them.
_LISTED = ["pipeline", "git_ref"]


def created_day(job_id: str) -> str:
    """The day on which the job was created, as ``2026-11-21``. The id says it, so it costs no read."""
    return f"{id_moment(job_id):%Y-%m-%d}"


class ByDay(GlobalSecondaryIndex["Job"]):
    """All jobs, by the day on which they were created."""

    class Meta:
        index_name = "by_day"
        projection = IncludeProjection(_LISTED)

    created_day = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class ByOpen(GlobalSecondaryIndex["Job"]):
    """Jobs on which something is still to be done: to hand out, to run, or to store the log of."""

    class Meta:
        index_name = "by_open"
        projection = KeysOnlyProjection()

    open = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class ByAgent(GlobalSecondaryIndex["Job"]):
    """Jobs by the agent that last started them."""

    class Meta:
        index_name = "by_agent"
        projection = IncludeProjection(_LISTED)

    started_by = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class ByOutcome(GlobalSecondaryIndex["Job"]):
    """Jobs that have ended, by status and by the day of their creation (``failed#2026-11-21``)."""

    class Meta:
        index_name = "by_outcome"
        projection = IncludeProjection(_LISTED)

    outcome = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class Job(Record):
    """One job of a run. Times are RFC 3339 texts, durations seconds."""

    class Meta(Record.Meta):
        table_name = table_name("jobs")

    job_id = UnicodeAttribute(hash_key=True)
    run_id = UnicodeAttribute()
    pipeline = UnicodeAttribute()
    repository = UnicodeAttribute()
    git_ref = UnicodeAttribute()
    # What the agent found the ref to be.
    commit = UnicodeAttribute(null=True)
    env = JSONAttribute(null=True)
    # What an agent must have to get the job.
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    priority = NumberAttribute()
    # The parsed pipeline definition, or null while only the repository knows it.
    definition = JSONAttribute(null=True)
    # The attempt for which the repository's own definition was last read.
    defined_attempt = NumberAttribute(null=True)
    timeout = NumberAttribute(null=True)
    retries = NumberAttribute()
    requested_by = UnicodeAttribute()
    retry_of = UnicodeAttribute(null=True)

    status = UnicodeAttribute()
    # The number of the present attempt; 0 before the first. Every write of an agent carries it (fencing).
    attempt = NumberAttribute(default=0)
    # How many attempts were lost with their agent; these count against `retries`.
    lost_attempts = NumberAttribute(default=0)
    agent_id = UnicodeAttribute(null=True)
    # As it was called when it started the job.
    agent_name = UnicodeAttribute(null=True)
    cancel_requested = BooleanAttribute(null=True)

    created_at = UnicodeAttribute()
    assigned_at = UnicodeAttribute(null=True)
    started_at = UnicodeAttribute(null=True)
    completed_at = UnicodeAttribute(null=True)

    exit_code = NumberAttribute(null=True)
    error_message = UnicodeAttribute(null=True)
    steps = JSONAttribute(null=True)
    log_chunks = NumberAttribute(null=True)
    # The name of the whole log in object storage, once it stands there.
    log_stored = UnicodeAttribute(null=True)

    created_day = UnicodeAttribute()
    open = UnicodeAttribute(null=True)
    started_by = UnicodeAttribute(null=True)
    outcome = UnicodeAttribute(null=True)

    by_day = ByDay()
    by_open = ByOpen()
    by_agent = ByAgent()
    by_outcome = ByOutcome()
