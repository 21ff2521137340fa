"""The records of runs: the run, the graph of its jobs, and the state of each job in it.

Run, graph and states are one partition, so that a run's page and its advance are one consistent query. What the steps
of a job are is in a partition of its own, since it is large and only a start reads it.
"""

import hashlib
from typing import Any

from pynamodb.attributes import BinaryAttribute, BooleanAttribute, ListAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# The range keys of a run's partition, or how they begin.
RUN = "run"
GRAPH = "graph#"
NODE = "job#"
# The range key of the only row of a branch or pull request.
HEADS = "heads"

# The values of `open` and `due`, and so the only partitions of these indexes. A run leaves the first when it has ended,
# and a row leaves the second when the sweep has advanced its run.
OPEN_RUNS = "open"
DUE = "due"

# Keys of the outbox may have 512 characters.
_PLACE_CHARACTERS = 400

# These never change, so later updates of a run cost no writes in the indexes.
_LISTED = ["git_ref", "event", "requested_by"]


class RunsByDay(GlobalSecondaryIndex["Run"]):
    """All runs by their day of creation."""

    class Meta:
        index_name = "by_day"
        projection = IncludeProjection(["pipeline", *_LISTED])

    created_day = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class RunsByPipeline(GlobalSecondaryIndex["Run"]):
    """The runs of a pipeline."""

    class Meta:
        index_name = "by_pipeline"
        projection = IncludeProjection(_LISTED)

    pipeline = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class RunsByOpen(GlobalSecondaryIndex["Run"]):
    """The runs that have not ended."""

    class Meta:
        index_name = "by_open"
        projection = KeysOnlyProjection()

    open = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class RunsByDue(GlobalSecondaryIndex["Run"]):
    """The rows of runs that are to be advanced."""

    class Meta:
        index_name = "by_due"
        projection = KeysOnlyProjection()

    due = UnicodeAttribute(hash_key=True)
    due_at = UnicodeAttribute(range_key=True)


class Run(Record):
    """A run: the jobs of one pipeline for one commit. A run of one job has no graph, and its row follows the job."""

    class Meta(Record.Meta):
        table_name = table_name("runs")

    run_id = UnicodeAttribute(hash_key=True)
    part = UnicodeAttribute(range_key=True, default_for_new=RUN)
    pipeline = UnicodeAttribute()
    repository = UnicodeAttribute()
    # With what agents fetch it; see `Pipeline.fetch_with`.
    fetch_with = UnicodeAttribute(null=True)
    git_ref = UnicodeAttribute()
    # The pipeline's default ref at that time.
    default_ref = UnicodeAttribute(null=True)
    # What started the run; see `apps.jobs.states.Event`.
    event = UnicodeAttribute()
    commit = UnicodeAttribute(null=True)
    # The schedule that started it, and a digest of what it builds besides the commit.
    schedule_id = UnicodeAttribute(null=True)
    basis = UnicodeAttribute(null=True)
    # Of a run that starts only if something has changed: the schedule's newest runs before it, the newest one first;
    # and, if nothing has, the run that built the same.
    changed_since: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, null=True)
    unchanged_since = UnicodeAttribute(null=True)
    # The event of a connection that started it; see `apps.sources`.
    event_id = UnicodeAttribute(null=True)
    # The connection and the repository there in which its checks are shown.
    checks_of = UnicodeAttribute(null=True)
    checks_repository = UnicodeAttribute(null=True)
    # The commit that shows them: the event's, which the agent may find replaced by a newer one.
    checks_commit = UnicodeAttribute(null=True)
    # The number of the pull request, and whether its commits come from another repository.
    pull_request = NumberAttribute(null=True)
    is_fork = BooleanAttribute(null=True)
    # When an operator let the run of a fork have what one of the repository itself has, and their name.
    allowed_at = UnicodeAttribute(null=True)
    allowed_by = UnicodeAttribute(null=True)
    # What the event says: the members of `Trigger`, and those that people see.
    trigger = CompactJSONAttribute(null=True)
    # It builds its commits, and its pipeline cancels the runs of older ones.
    supersedes = BooleanAttribute(null=True)
    # Why the event asks for nothing, once the first job has read the pipeline file.
    nothing_to_do = UnicodeAttribute(null=True)
    requested_by = UnicodeAttribute()
    # The id of the user who started it; null for runs of schedules, of webhooks, and from before it was recorded.
    requested_by_id = UnicodeAttribute(null=True)
    # Of a run for a deployment: the environment, the deployment that it repeats or puts back, whether it leaves other
    # environments out, and the event of the run whose commit it has, which conditions ask for.
    deploys_to = UnicodeAttribute(null=True)
    repeats = UnicodeAttribute(null=True)
    deploys_alone = BooleanAttribute(null=True)
    event_before = UnicodeAttribute(null=True)
    # Its end is announced: `apps.jobs.services.announcements`.
    announced = BooleanAttribute(null=True)
    env = CompactJSONAttribute(null=True)
    parameters = CompactJSONAttribute(null=True)
    priority = NumberAttribute()
    # Labels that the request asked for. Each job of the run requires them.
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)

    status = UnicodeAttribute()
    # The first job. That of a graph only reads the repository.
    job_id = UnicodeAttribute()
    # How many jobs the graph has; null before it is complete, and for a run of one job.
    jobs = NumberAttribute(null=True)
    # Counts what adds jobs or takes them back from their end: uploads and retries. The end of the run requires it
    # unchanged.
    revision = NumberAttribute(default=0)
    cancel_requested = BooleanAttribute(null=True)
    # The concurrency group of the whole run, how many of its runs go on at once, and whether a newer one ends others.
    group = UnicodeAttribute(null=True)
    group_limit = NumberAttribute(null=True)
    group_cancels = BooleanAttribute(null=True)
    # The run has a slot of the group, or waits in its line since then.
    has_slot = BooleanAttribute(null=True)
    group_since = UnicodeAttribute(null=True)
    # False: no job takes the result of an earlier one.
    reuse = BooleanAttribute(null=True)
    # What the repository has, as the first job found it: the changed paths, and the trees of the jobs' inputs.
    changed_paths = CompactJSONAttribute(null=True)
    trees = CompactJSONAttribute(null=True)

    created_at = UnicodeAttribute()
    completed_at = UnicodeAttribute(null=True)

    created_day = UnicodeAttribute()
    open = UnicodeAttribute(null=True)
    due = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)

    @property
    def checks_key(self) -> str | None:
        """The key that orders what is sent about the checks of its commit; None if no commit shows them."""
        if not (self.checks_of and self.checks_repository and self.checks_commit):
            return None
        place = f"{self.checks_of}:{self.checks_repository}"
        if len(place) > _PLACE_CHARACTERS:
            place = hashlib.sha256(place.encode()).hexdigest()
        return f"checks:{place}:{self.checks_commit}"

    by_day = RunsByDay()
    by_pipeline = RunsByPipeline()
    by_open = RunsByOpen()
    by_due = RunsByDue()


class RunHeads(Record):
    """The newest runs of a branch or pull request, in the order in which their events came."""

    class Meta(Record.Meta):
        table_name = table_name("runs")

    # See `heads_key`.
    run_id = UnicodeAttribute(hash_key=True)
    part = UnicodeAttribute(range_key=True, default_for_new=HEADS)
    # ``<run id> <commit before or -> <commit> <time by the provider or ->``
    entries: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)


def heads_key(pipeline: str, ref: str) -> str:
    """The partition of a branch or pull request of a pipeline. No run has such an id."""
    return f"heads#{pipeline}#{ref}"


class RunGraph(Record):
    """A part of a run's graph: JSON in gzip, whose shape is `apps.jobs.run_graph`'s."""

    class Meta(Record.Meta):
        table_name = table_name("runs")

    run_id = UnicodeAttribute(hash_key=True)
    # ``graph#0001``
    part = UnicodeAttribute(range_key=True)
    packed = BinaryAttribute(legacy_encoding=False)
    # The job whose agent reported it, the digest of its text, and how the keys of what its jobs do begin.
    reported_by = UnicodeAttribute()
    digest = UnicodeAttribute(null=True)
    works = UnicodeAttribute()
    # 0 for the pipeline file, and one more than the graph of the job whose agent reported it for any other.
    depth = NumberAttribute(default=0)
    # All of its jobs are written, so they count.
    complete = BooleanAttribute(null=True)


class RunNode(Record):
    """One job of a run's graph: which record it has, and how far it is. Under 200 bytes without outputs."""

    class Meta(Record.Meta):
        table_name = table_name("runs")

    run_id = UnicodeAttribute(hash_key=True)
    # ``job#`` and the name.
    part = UnicodeAttribute(range_key=True)
    job_id = UnicodeAttribute()
    # `apps.jobs.states.Status`; queued also while an agent has the job.
    state = UnicodeAttribute()
    # Why it was skipped, or which job's result it has.
    reason = UnicodeAttribute(null=True)
    outputs = CompactJSONAttribute(null=True)
    # The concurrency group in whose line it waits, and since when.
    group = UnicodeAttribute(null=True)
    group_since = UnicodeAttribute(null=True)
    # The environment that it deploys to, once there is a deployment of it; and the number of its last attempt, if that
    # was not started because a gate had closed.
    environment = UnicodeAttribute(null=True)
    attempt = NumberAttribute(null=True)
    # The end of the job is still to be acted upon, since this time; or a gate of its environment may open then.
    due = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)

    @property
    def name(self) -> str:
        """The name of the job in the run."""
        return str(self.part).removeprefix(NODE)


class RunWork(Record):
    """What one job of a pipeline's file does. All cells of its matrix share it."""

    class Meta(Record.Meta):
        table_name = table_name("runs")

    # The id of the run and ``#work``.
    run_id = UnicodeAttribute(hash_key=True)
    # ``<works of the graph>/<name of the job in the file>``
    part = UnicodeAttribute(range_key=True)
    packed = BinaryAttribute(legacy_encoding=False)
