"""The record of a job: the single source of truth about it."""

from collections.abc import Iterable
from typing import Any

from pynamodb.attributes import BooleanAttribute, ListAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from apps.pipelines import definitions
from controlplane.lib.ids import id_moment
from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# The value of `Job.open`, and so the only partition of `ByOpen`. The partition stays small: a job leaves it when it has
# ended and its log is archived.
OPEN = "open"

# These never change, so a job's later updates cost no writes in the indexes that contain them.
_LISTED = ["pipeline", "git_ref"]


def created_day(job_id: str) -> str:
    """The day on which the job was created, as ``2026-11-21``. It is part of the id, so this reads nothing."""
    return f"{id_moment(job_id):%Y-%m-%d}"


# The name in its run of a job whose end is the run's. If its pipeline file has several jobs, it only reads the file,
# and gets the other name. No job of a file can have them.
FIRST_NODE = "#first"
FILE_NODE = definitions.FIRST_NODE


class ByDay(GlobalSecondaryIndex["Job"]):
    """All jobs by their day of creation."""

    class Meta:
        index_name = "by_day"
        projection = IncludeProjection(_LISTED)

    created_day = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class ByOpen(GlobalSecondaryIndex["Job"]):
    """Jobs with work left: to dispatch, to run, or to archive the log of."""

    class Meta:
        index_name = "by_open"
        projection = KeysOnlyProjection()

    open = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class ByAgent(GlobalSecondaryIndex["Job"]):
    """Jobs by the agent that started their last attempt."""

    class Meta:
        index_name = "by_agent"
        projection = IncludeProjection(_LISTED)

    started_by = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class ByOutcome(GlobalSecondaryIndex["Job"]):
    """Ended jobs by status and day of creation (``failed#2026-11-21``)."""

    class Meta:
        index_name = "by_outcome"
        projection = IncludeProjection(_LISTED)

    outcome = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class Job(Record):
    """One job. Times are RFC 3339 texts, durations are seconds."""

    class Meta(Record.Meta):
        table_name = table_name("jobs")

    job_id = UnicodeAttribute(hash_key=True)
    run_id = UnicodeAttribute()
    # The name of the job in its run. Null for jobs from before runs were recorded.
    node = UnicodeAttribute(null=True)
    # What started its run; null means the API.
    event = UnicodeAttribute(null=True)
    # The key of its run's checks in the outbox (`Run.checks_key`); null if no commit shows them.
    checks_key = UnicodeAttribute(null=True)
    # Of the first job of a run whose end is announced.
    announced = BooleanAttribute(null=True)
    # Of a job in a graph: which of the run's rows has its steps.
    work = UnicodeAttribute(null=True)
    # With which exit codes an attempt runs again.
    retry_codes: ListAttribute[Any] = ListAttribute(of=NumberAttribute, null=True)
    # The definition is the pipeline's on the server, and has several jobs.
    is_defined_on_server = BooleanAttribute(null=True)
    # The concurrency group that it waits for or has a slot of, and since when it waits in the group's line.
    group = UnicodeAttribute(null=True)
    group_since = UnicodeAttribute(null=True)
    pipeline = UnicodeAttribute()
    repository = UnicodeAttribute()
    # With what agents fetch it; see `Pipeline.fetch_with`.
    fetch_with = UnicodeAttribute(null=True)
    git_ref = UnicodeAttribute()
    # The commit of the ref, as the agent found it; or which commit the agent is to fetch instead of the ref.
    commit = UnicodeAttribute(null=True)
    is_commit_given = BooleanAttribute(null=True)
    # The environment that it deploys to, once there is a deployment of it.
    environment = UnicodeAttribute(null=True)
    env = CompactJSONAttribute(null=True)
    # The labels that an agent must have to run the job.
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # Those of them that only the repository's file has added, as agents read it. A retry does not require them.
    file_labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    priority = NumberAttribute()
    # The parsed pipeline definition. Null until the agent has read it from the repository.
    definition = CompactJSONAttribute(null=True)
    # The attempt that last read the definition from the repository.
    defined_attempt = NumberAttribute(null=True)
    # ``attempt#digest`` of the agent's key under which the attempt got its secrets.
    secrets_key = UnicodeAttribute(null=True)
    timeout = NumberAttribute(null=True)
    retries = NumberAttribute()
    requested_by = UnicodeAttribute()
    # The id of the user who asked for it, or for it to run again.
    requested_by_id = UnicodeAttribute(null=True)
    retry_of = UnicodeAttribute(null=True)
    # The ids of the jobs that are retries of this one, the newest last; of very many, only the newest.
    retried_by: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, null=True)

    status = UnicodeAttribute()
    # The number of the current attempt; 0 before the first. Each write of an agent contains it (fencing).
    attempt = NumberAttribute(default=0)
    # How many attempts were lost with their agents. These count against `retries`.
    lost_attempts = NumberAttribute(default=0)
    agent_id = UnicodeAttribute(null=True)
    # The agent's name when it started the job.
    agent_name = UnicodeAttribute(null=True)
    cancel_requested = BooleanAttribute(null=True)
    # The agent that lost the current attempt, and when it had started it. Its late report counts until the next claim.
    lost_agent_id = UnicodeAttribute(null=True)
    lost_started_at = UnicodeAttribute(null=True)
    # The failures of machines that ended attempts: ``[{"agent_id", "agent", "attempt", "reason", "at"}]``.
    faults = CompactJSONAttribute(null=True)

    created_at = UnicodeAttribute()
    assigned_at = UnicodeAttribute(null=True)
    started_at = UnicodeAttribute(null=True)
    completed_at = UnicodeAttribute(null=True)

    # The earlier job whose result this one has, without having run, and how many seconds that one took.
    reused_from = UnicodeAttribute(null=True)
    saved_seconds = NumberAttribute(null=True)

    exit_code = NumberAttribute(null=True)
    error_message = UnicodeAttribute(null=True)
    steps = CompactJSONAttribute(null=True)
    log_chunks = NumberAttribute(null=True)
    # The name of the whole log in object storage, once it is archived.
    log_stored = UnicodeAttribute(null=True)
    # While it could not be archived: how often, when it is tried again, and why it failed last.
    log_failures = NumberAttribute(null=True)
    log_retry_at = UnicodeAttribute(null=True)
    log_problem = UnicodeAttribute(null=True)

    created_day = UnicodeAttribute()
    open = UnicodeAttribute(null=True)
    started_by = UnicodeAttribute(null=True)
    outcome = UnicodeAttribute(null=True)

    by_day = ByDay()
    by_open = ByOpen()
    by_agent = ByAgent()
    by_outcome = ByOutcome()

    @property
    def is_first(self) -> bool:
        """Whether its run has, so far, no other job."""
        return self.node == FIRST_NODE

    def file_labels_of(self, labels: Iterable[str]) -> list[str]:
        """Those of `labels` that neither the pipeline nor the request for the job asked for."""
        return sorted({*labels} - ({*self.labels} - {*self.file_labels}))
