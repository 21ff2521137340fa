"""Environments and deployments as JSON. The services check what makes an address, a ref or a window valid."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.jobs.selectors.waiting import WaitingCode
from apps.jobs.serializers.jobs import WaitingSerializer
from apps.jobs.serializers.runs import MAX_PARAMETERS, ParameterField
from apps.jobs.states import DeploymentStatus, Event, Status
from apps.pipelines.definitions import ENVIRONMENT_NAME, ENVIRONMENT_NAME_FORM
from controlplane.http.drf_fields import ChoiceField, DictField, FlagField, ListField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH
from controlplane.lib.freezes import MAX_REASON
from controlplane.lib.ids import ID_PATTERN

MAX_COMMENT = 1000
_GATES = [code.value for code in (WaitingCode.APPROVAL, WaitingCode.WAIT_TIMER, WaitingCode.FROZEN)]
_GATES.append(WaitingCode.ENVIRONMENT_BUSY.value)
_STATUSES = [status.value for status in DeploymentStatus]


class _NameField(serializers.RegexField):
    """The name of an environment."""

    def __init__(self, **options: Any) -> None:
        options |= {"error_messages": {"invalid": f"must be {ENVIRONMENT_NAME_FORM}"}}
        super().__init__(rf"^{ENVIRONMENT_NAME.pattern}$", max_length=55, **options)


class FreezeSerializer(serializers.Serializer[Any]):
    """A window of time in which nothing is deployed: once, or each week."""

    until = TextField(max_length=16, help_text="Its end, in the form of `from`.")
    zone = TextField(default="UTC", max_length=64, help_text="A time zone, such as Europe/Berlin.")
    reason = TextField(required=False, allow_null=True, allow_blank=True, max_length=MAX_REASON)

    def get_fields(self) -> Any:
        # A member cannot have the name of a keyword.
        begin = TextField(
            max_length=16,
            help_text="Its beginning on the clocks of `zone`: 2026-12-20T18:00, or FRI 16:00 of each week.",
        )
        return {"from": begin, **super().get_fields()}


class EnvironmentChangeSerializer(serializers.Serializer[Any]):
    """The body of ``PATCH /environments/{name}``: what is left out stays."""

    url = TextField(
        required=False, allow_null=True, allow_blank=True, max_length=500, help_text="Where what is live can be seen."
    )
    allowed_refs = ListField(
        child=TextField(max_length=255),
        required=False,
        max_length=50,
        help_text="Patterns of refs that may be deployed, as main, release/* and refs/tags/v*; none: all.",
    )
    approvals = WholeNumberField(required=False, min_value=0, max_value=10, help_text="How many people must approve.")
    approver_roles = ListField(
        child=TextField(max_length=40), required=False, max_length=10, help_text="Roles whose users may approve."
    )
    approver_ids = ListField(
        child=TextField(max_length=40), required=False, max_length=20, help_text="Ids of users who may approve."
    )
    requester_may_not_approve = FlagField(
        required=False,
        help_text="The one who asked for the run, or for the job to run again, may not approve. "
        "Needs `approvals` of at least 1.",
    )
    wait_seconds = WholeNumberField(
        required=False, min_value=0, max_value=30 * 86400, help_text="How long each deployment waits once it is ready."
    )
    freezes = ListField(child=FreezeSerializer(), required=False, max_length=50, help_text="When nothing is deployed.")


class EnvironmentCreateSerializer(EnvironmentChangeSerializer):
    """The body of ``POST /environments``."""

    name = _NameField(help_text="As `environment:` of a job names it. It cannot be changed later.")


class LiveSerializer(serializers.Serializer[Any]):
    """What a pipeline has live in an environment."""

    pipeline = serializers.CharField()
    deployment_id = serializers.CharField()
    run_id = serializers.CharField()
    commit = serializers.CharField(allow_null=True)
    git_ref = serializers.CharField()
    requested_by = serializers.CharField()
    since = serializers.CharField()
    before_id = serializers.CharField(allow_null=True, help_text="The deployment that was live before.")
    before_commit = serializers.CharField(allow_null=True)


class EnvironmentSerializer(serializers.Serializer[Any]):
    """An environment with what is live in it. Times are RFC 3339 in UTC.

    The context has the statuses of the jobs of deployments in progress, `job_statuses`.
    """

    name = serializers.CharField(source="environment.name")
    url = serializers.CharField(source="environment.url", allow_null=True)
    allowed_refs = serializers.ListField(source="environment.allowed_refs", child=serializers.CharField())
    approvals = serializers.IntegerField(source="environment.approvals")
    approver_roles = serializers.ListField(source="environment.approver_roles", child=serializers.CharField())
    approver_ids = serializers.ListField(source="environment.approver_ids", child=serializers.CharField())
    requester_may_not_approve = serializers.BooleanField(source="environment.requester_may_not_approve")
    wait_seconds = serializers.IntegerField(source="environment.wait_seconds")
    freezes = serializers.SerializerMethodField()
    live = LiveSerializer(many=True)
    waiting = serializers.SerializerMethodField()
    in_progress = serializers.SerializerMethodField()
    in_progress_job_status = serializers.SerializerMethodField()
    revision = serializers.IntegerField(source="environment.revision", help_text="Counts the changes by users.")
    created_at = serializers.CharField(source="environment.created_at")
    created_by = serializers.CharField(source="environment.created_by")
    changed_at = serializers.CharField(source="environment.changed_at")
    changed_by = serializers.CharField(source="environment.changed_by")

    @extend_schema_field(FreezeSerializer(many=True))
    def get_freezes(self, view: Any) -> Any:
        return list(view.environment.freezes or ())

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_waiting(self, view: Any) -> list[str]:
        """The ids of the deployments that wait for it, the oldest first."""
        return [str(one.deployment_id) for one in view.waiting]

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_in_progress(self, view: Any) -> str | None:
        """The id of the deployment that is in progress."""
        found: str | None = view.in_progress
        return found

    @extend_schema_field(serializers.ChoiceField(choices=[status.value for status in Status], allow_null=True))
    def get_in_progress_job_status(self, view: Any) -> Any:
        """The status of the job of the deployment that is in progress, as queued while it waits for an agent."""
        return self.context["job_statuses"].get(view.in_progress)


class EnvironmentsSerializer(serializers.Serializer[Any]):
    """All environments by name."""

    environments = EnvironmentSerializer(many=True)


class DeploymentCreateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /deployments``."""

    environment = _NameField(
        help_text="One that a job of the pipeline deploys to. If it is new, the run makes it, without gates."
    )
    pipeline = TextField(required=False, max_length=63, help_text="Default: the default pipeline, or that of the run.")
    git_ref = TextField(
        required=False, max_length=255, help_text="Branch, tag or commit. Default: the pipeline's default ref."
    )
    run_id = serializers.RegexField(
        rf"^{ID_PATTERN}$",
        max_length=26,
        required=False,
        help_text="Instead of git_ref: the run whose commit is deployed, with its parameters and variables.",
    )
    parameters = DictField(
        child=ParameterField(),
        required=False,
        max_entries=MAX_PARAMETERS,
        help_text="The values of the pipeline's parameters.",
    )


class DecisionSerializer(serializers.Serializer[Any]):
    """The body of ``POST /deployments/{deployment_id}/approve`` and ``…/reject``."""

    comment = TextField(required=False, allow_null=True, allow_blank=True, max_length=MAX_COMMENT)


class DeploymentStartedSerializer(serializers.Serializer[Any]):
    """The run that comes to the deployment. `GET /deployments?run_id=` lists it as soon as there is one."""

    run_id = serializers.CharField()
    job_id = serializers.CharField(help_text="The first job of the run, which reads the pipeline file.")
    pipeline = serializers.CharField()
    git_ref = serializers.CharField()
    commit = serializers.CharField(allow_null=True, help_text="Null: the agent finds the commit of git_ref.")


class DeploymentListQuerySerializer(serializers.Serializer[Any]):
    """The filters of ``GET /deployments``."""

    environment = _NameField(required=False)
    pipeline = TextField(required=False, max_length=63)
    status = ChoiceField(_STATUSES, required=False)
    run_id = serializers.RegexField(
        rf"^{ID_PATTERN}$",
        max_length=26,
        required=False,
        help_text="Only those of this run, all of them; not with another filter.",
    )
    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class PersonsWordSerializer(serializers.Serializer[Any]):
    """An approval or a rejection."""

    by = serializers.CharField()
    by_id = serializers.CharField()
    at = serializers.CharField()
    comment = serializers.CharField(allow_null=True)


class GateSerializer(serializers.Serializer[Any]):
    """A gate of a deployment that waits, as it is now."""

    code = serializers.ChoiceField(choices=_GATES)
    is_open = serializers.BooleanField()
    message = serializers.CharField(help_text="How it is, and what opens it.")
    until = serializers.CharField(allow_null=True, help_text="When it opens by itself.")


class DeploymentSerializer(serializers.Serializer[Any]):
    """A deployment: one job that deploys one commit. Its id is that of the job. Times are RFC 3339 in UTC."""

    deployment_id = serializers.CharField()
    environment = serializers.CharField()
    pipeline = serializers.CharField()
    run_id = serializers.CharField()
    job = serializers.CharField(source="node", help_text="The name of the job in the run.")
    status = serializers.ChoiceField(choices=_STATUSES)
    git_ref = serializers.CharField()
    commit = serializers.CharField(allow_null=True)
    event = serializers.ChoiceField(choices=[event.value for event in Event], help_text="What started the run.")
    repeats = serializers.CharField(allow_null=True, help_text="The deployment whose commit it deploys again.")
    requested_by = serializers.CharField()
    approvals = serializers.SerializerMethodField()
    rejection = serializers.SerializerMethodField()
    reason = serializers.CharField(allow_null=True, help_text="Why it ended without its steps.")
    job_status = serializers.SerializerMethodField()
    created_at = serializers.CharField(help_text="When it was ready, and began to wait for its gates.")
    opened_at = serializers.CharField(allow_null=True, help_text="When its gates had opened.")
    ended_at = serializers.CharField(allow_null=True)
    before_id = serializers.CharField(allow_null=True, help_text="The deployment that was live when it began.")
    before_commit = serializers.CharField(allow_null=True)

    @extend_schema_field(serializers.ChoiceField(choices=[status.value for status in Status], allow_null=True))
    def get_job_status(self, deployment: Any) -> Any:
        """The status of the job of a deployment in progress, as queued while it waits for an agent. Null for others."""
        return self.context["job_statuses"].get(deployment.deployment_id)

    @extend_schema_field(PersonsWordSerializer(many=True))
    def get_approvals(self, deployment: Any) -> Any:
        return PersonsWordSerializer(deployment.approvals or [], many=True).data

    @extend_schema_field(PersonsWordSerializer(allow_null=True))
    def get_rejection(self, deployment: Any) -> Any:
        return PersonsWordSerializer(deployment.rejection).data if deployment.rejection else None


class DeploymentDetailSerializer(DeploymentSerializer):
    """A deployment with its gates, while it waits; with what its job waits for after that; and why it has failed."""

    gates = serializers.SerializerMethodField()
    waiting = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    @extend_schema_field(GateSerializer(many=True))
    def get_gates(self, _deployment: Any) -> Any:
        return GateSerializer(self.context["gates"], many=True).data

    @extend_schema_field(WaitingSerializer(allow_null=True))
    def get_waiting(self, _deployment: Any) -> Any:
        """What the job of a deployment in progress waits for; null once an agent has taken it."""
        job = self.context["job"]
        return WaitingSerializer(job.waiting).data if job and job.waiting else None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_error(self, _deployment: Any) -> Any:
        """Why the job of a failed deployment has failed, unless `reason` says it."""
        job = self.context["job"]
        return job.error if job else None


class DeploymentPageSerializer(serializers.Serializer[Any]):
    """A page of deployments, newest first."""

    deployments = DeploymentSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ChangedCommitSerializer(serializers.Serializer[Any]):
    """A commit of a deployment."""

    commit = serializers.CharField()
    author = serializers.CharField()
    message = serializers.CharField(help_text="The first line.")
    url = serializers.CharField(allow_blank=True)


class DeploymentChangesSerializer(serializers.Serializer[Any]):
    """The commits of a deployment since what was live before; of one that waits, since what is live now."""

    before = serializers.CharField(allow_null=True, help_text="Null: nothing was live.")
    after = serializers.CharField(allow_null=True)
    count = serializers.IntegerField(allow_null=True, help_text="Null: the provider does not say, or there is none.")
    is_back = serializers.BooleanField(help_text="The commits are taken back: it deploys an older one.")
    commits = ChangedCommitSerializer(many=True, allow_null=True, help_text="The newest 20, the newest first.")
    url = serializers.CharField(allow_null=True, help_text="The comparison at the provider.")
