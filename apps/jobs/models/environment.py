"""The records of environments: where jobs deploy to, what they need before they may, and what is live."""

from typing import Any

from pynamodb.attributes import BooleanAttribute, ListAttribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# Environments are few, so one partition holds and lists them all, by name. Two others hold their deployments that wait,
# and what is live in them; the places there begin with the name and ``#``.
SPACE = "default"
WAITS = "waits"
LIVE = "live"


class Environment(Record):
    """Where jobs deploy to. A deleted one stays as a mark, so that no pipeline file makes it anew without its gates."""

    class Meta(Record.Meta):
        table_name = table_name("environments")

    space = UnicodeAttribute(hash_key=True, default_for_new=SPACE)
    # The name.
    place = UnicodeAttribute(range_key=True)
    url = UnicodeAttribute(null=True)
    # Patterns of refs, as ``main``, ``release/*`` and ``refs/tags/v*``; empty for all.
    allowed_refs: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # How many people must approve, and who may: users by id, and everyone with one of the roles.
    approvals = NumberAttribute(default=0)
    approver_roles: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    approver_ids: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    requester_may_not_approve = BooleanAttribute(default=False)
    # In seconds, since the deployment was ready.
    wait_seconds = NumberAttribute(default=0)
    # As `controlplane.lib.freezes.Freeze.as_dict` has them.
    freezes = CompactJSONAttribute(null=True)
    # Counts the changes by users. What a deployment was decided by requires it unchanged.
    revision = NumberAttribute(default=1)
    created_at = UnicodeAttribute(null=True)
    created_by = UnicodeAttribute(null=True)
    changed_at = UnicodeAttribute(null=True)
    changed_by = UnicodeAttribute(null=True)
    deleted_at = UnicodeAttribute(null=True)

    # The deployment that is in progress, in a set, so that an end can take out itself and no other. And how many
    # deployments have begun.
    holders = UnicodeSetAttribute(null=True)
    turn = NumberAttribute(default=0)

    @property
    def name(self) -> str:
        return str(self.place)


class WaitingDeployment(Record):
    """A deployment that waits for the gates of its environment, so that a free one finds the next."""

    class Meta(Record.Meta):
        table_name = table_name("environments")

    space = UnicodeAttribute(hash_key=True, default_for_new=WAITS)
    # ``<environment>#<deployment id>``
    place = UnicodeAttribute(range_key=True)
    deployment_id = UnicodeAttribute()
    # The job that it is.
    run_id = UnicodeAttribute()
    node = UnicodeAttribute()

    @classmethod
    def of(cls, environment: str, deployment_id: str, **members: Any) -> "WaitingDeployment":
        """The row of this deployment."""
        return cls(WAITS, f"{environment}#{deployment_id}", deployment_id=deployment_id, **members)


class LiveDeployment(Record):
    """What a pipeline has live in an environment."""

    class Meta(Record.Meta):
        table_name = table_name("environments")

    space = UnicodeAttribute(hash_key=True, default_for_new=LIVE)
    # ``<environment>#<pipeline>``
    place = UnicodeAttribute(range_key=True)
    environment = UnicodeAttribute()
    pipeline = UnicodeAttribute()
    deployment_id = UnicodeAttribute()
    run_id = UnicodeAttribute()
    commit = UnicodeAttribute(null=True)
    git_ref = UnicodeAttribute()
    requested_by = UnicodeAttribute()
    # The deployment that was live before.
    before_id = UnicodeAttribute(null=True)
    before_commit = UnicodeAttribute(null=True)
    since = UnicodeAttribute()

    @classmethod
    def of(cls, environment: str, pipeline: str, **members: Any) -> "LiveDeployment":
        """The row of this pipeline in this environment."""
        return cls(LIVE, f"{environment}#{pipeline}", environment=environment, pipeline=pipeline, **members)
