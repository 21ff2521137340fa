"""The record of a deployment: one job that deploys one commit to one environment."""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# These never change, so later updates cost no writes in the indexes.
_LISTED = ["pipeline"]


class DeploymentsByMonth(GlobalSecondaryIndex["Deployment"]):
    """All deployments by the month in which they were ready."""

    class Meta:
        index_name = "by_month"
        projection = IncludeProjection([*_LISTED, "environment"])

    created_month = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class DeploymentsByEnvironment(GlobalSecondaryIndex["Deployment"]):
    """The deployments to an environment."""

    class Meta:
        index_name = "by_environment"
        projection = IncludeProjection(_LISTED)

    environment = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class Deployment(Record):
    """A job that deploys. Its id is that of the job, so a job that runs again is another deployment.

    The job has one commit and one definition, which never change; so what is approved is these and nothing else.
    """

    class Meta(Record.Meta):
        table_name = table_name("deployments")

    deployment_id = UnicodeAttribute(hash_key=True)
    environment = UnicodeAttribute()
    pipeline = UnicodeAttribute()
    run_id = UnicodeAttribute()
    # The name of the job in its run.
    node = UnicodeAttribute()
    git_ref = UnicodeAttribute()
    commit = UnicodeAttribute(null=True)
    # What started the run; the deployment that it repeats or puts back, if any.
    event = UnicodeAttribute()
    repeats = UnicodeAttribute(null=True)
    # Who asked for the run or for the job to run again: the name, and the ids of those who are users.
    requested_by = UnicodeAttribute()
    requester_ids: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)

    # `apps.jobs.states.DeploymentStatus`
    status = UnicodeAttribute()
    # ``[{"by_id", "by", "at", "comment"}]``
    approvals = CompactJSONAttribute(null=True)
    # ``{"by_id", "by", "at", "comment"}``
    rejection = CompactJSONAttribute(null=True)
    # Counts approvals. The opening of the gates and a rejection require it unchanged.
    revision = NumberAttribute(default=0)
    # Why it ended otherwise than with its job's steps.
    reason = UnicodeAttribute(null=True)

    created_at = UnicodeAttribute()
    created_month = UnicodeAttribute()
    # When its gates opened, and its place in the order of all deployments to the environment.
    opened_at = UnicodeAttribute(null=True)
    turn = NumberAttribute(null=True)
    ended_at = UnicodeAttribute(null=True)
    # What the pipeline had live in the environment when the gates opened.
    before_id = UnicodeAttribute(null=True)
    before_commit = UnicodeAttribute(null=True)

    by_month = DeploymentsByMonth()
    by_environment = DeploymentsByEnvironment()
