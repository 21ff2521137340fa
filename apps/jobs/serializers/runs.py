"""Runs as JSON, and the parameters of requests about them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.jobs.serializers.jobs import JobCreateSerializer, WaitingSerializer
from apps.jobs.states import Event, RunStatus, Status
from controlplane.http.drf_fields import ChoiceField, DictField, FlagField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH

MAX_PARAMETERS = 50
# In characters.
MAX_PARAMETER = 1000


@extend_schema_field(
    {"oneOf": [{"type": "string", "maxLength": MAX_PARAMETER}, {"type": "number"}, {"type": "boolean"}]}
)
class ParameterField(serializers.Field[Any, Any, Any, Any]):
    """A text, a number, or true or false. The pipeline says which."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str | int | float | bool) or len(str(data)) > MAX_PARAMETER:
            raise serializers.ValidationError(
                f"must be a text of at most {MAX_PARAMETER:,} characters, a number, true or false"
            )
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class RunCreateQuerySerializer(serializers.Serializer[Any]):
    """The query parameters of ``POST /runs``."""

    reuse = FlagField(required=False, help_text="As the member of the body, which it overrides.")


class RunCreateSerializer(JobCreateSerializer):
    """The JSON body of ``POST /runs``."""

    parameters = DictField(
        child=ParameterField(),
        required=False,
        max_entries=MAX_PARAMETERS,
        help_text="The values of the pipeline's parameters: texts, numbers, and true or false.",
    )
    reuse = FlagField(
        required=False,
        default=True,
        help_text="With false, no job takes the result of an earlier one that had the same inputs.",
    )


class RunListQuerySerializer(serializers.Serializer[Any]):
    """The filters of ``GET /runs``."""

    pipeline = TextField(required=False, max_length=63)
    branch = TextField(required=False, max_length=255, help_text="The ref that the run was started for.")
    status = ChoiceField([status.value for status in RunStatus], required=False)
    event = ChoiceField([event.value for event in Event], required=False, help_text="What started the run.")
    requested_by = TextField(required=False, max_length=200, help_text="The name of who started it.")
    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class RunRetrySerializer(serializers.Serializer[Any]):
    """The JSON body of ``POST /runs/{run_id}/retry``."""

    everything = FlagField(
        required=False,
        default=False,
        help_text="Run all jobs that have ended again, and not only those that failed or were cancelled.",
    )


class RunSerializer(serializers.Serializer[Any]):
    """A run in a list. Times are RFC 3339 in UTC."""

    run_id = serializers.CharField()
    pipeline = serializers.CharField()
    status = serializers.SerializerMethodField()
    git_ref = serializers.CharField()
    commit = serializers.CharField(allow_null=True)
    event = serializers.ChoiceField(choices=[event.value for event in Event])
    requested_by = serializers.CharField()
    schedule_id = serializers.CharField(allow_null=True, help_text="The schedule that started it.")
    unchanged_since = serializers.CharField(
        allow_null=True, help_text="The run that has built the same, so that this one had nothing to do."
    )
    nothing_to_do = serializers.CharField(
        allow_null=True, help_text="Why its event asks for nothing, by the pipeline file of its commit."
    )
    event_id = serializers.CharField(allow_null=True, help_text="The event of a connection that started it.")
    pull_request = serializers.IntegerField(allow_null=True, help_text="The number of its pull request.")
    is_fork = serializers.BooleanField(
        allow_null=True,
        help_text="Whether the commits of the pull request come from another repository. Such a run gets no secrets, "
        "writes no caches and deploys nowhere, unless a user lets it.",
    )
    allowed_at = serializers.CharField(allow_null=True, help_text="When a user let the run of a fork.")
    allowed_by = serializers.CharField(allow_null=True)
    job_id = serializers.CharField(help_text="The first job. That of a run of several only reads the pipeline file.")
    jobs_total = serializers.SerializerMethodField()
    cancel_requested = serializers.SerializerMethodField()
    created_at = serializers.CharField()
    completed_at = serializers.CharField(allow_null=True)

    @extend_schema_field(serializers.ChoiceField(choices=[status.value for status in RunStatus]))
    def get_status(self, run: Any) -> str:
        return str(self.context["statuses"][run.run_id])

    def get_jobs_total(self, run: Any) -> int:
        """How many jobs the run has, without the one that only reads the pipeline file; 1 until that is read."""
        return int(run.jobs) - 1 if run.jobs else 1

    def get_cancel_requested(self, run: Any) -> bool:
        return bool(run.cancel_requested)


class RunPageSerializer(serializers.Serializer[Any]):
    """A page of runs, newest first."""

    runs = RunSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class RunJobSerializer(serializers.Serializer[Any]):
    """A job of a run: a node of its graph."""

    name = serializers.CharField()
    job = serializers.CharField(help_text="The name in the pipeline file. All cells of a matrix have the same.")
    cell = serializers.DictField(child=serializers.CharField(), help_text="The cell's value of each axis.")
    needs = serializers.ListField(child=serializers.CharField(), help_text="The names of the jobs that it needs.")
    job_id = serializers.CharField(source="record.job_id")
    status = serializers.ChoiceField(choices=[status.value for status in Status])
    reason = serializers.CharField(allow_null=True, help_text="Why it was skipped or cancelled before it ran.")
    retry_of = serializers.CharField(source="record.retry_of", allow_null=True)
    agent_name = serializers.CharField(source="record.agent_name", allow_null=True)
    reused_from = serializers.CharField(
        source="record.reused_from", allow_null=True, help_text="The earlier job whose result it has, without running."
    )
    saved_seconds = serializers.IntegerField(source="record.saved_seconds", allow_null=True)
    started_at = serializers.CharField(source="record.started_at", allow_null=True)
    completed_at = serializers.CharField(source="record.completed_at", allow_null=True)
    exit_code = serializers.IntegerField(source="record.exit_code", allow_null=True)
    error_message = serializers.CharField(source="record.error_message", allow_null=True)
    waiting = serializers.SerializerMethodField()

    @extend_schema_field(WaitingSerializer(allow_null=True))
    def get_waiting(self, job: Any) -> Any:
        """What a waiting job waits for. A queued job says so itself: `GET /jobs/{job_id}`."""
        waiting = self.context["waits"].get(job.name)
        return WaitingSerializer(waiting).data if waiting else None


class RunChecksSerializer(serializers.Serializer[Any]):
    """The checks of a run at its commit."""

    connection_id = serializers.CharField()
    repository = serializers.CharField(help_text="The full name at the provider, as acme/shop.")
    commit = serializers.CharField()
    shown = serializers.IntegerField(help_text="How many the provider shows.")
    problem = serializers.CharField(allow_null=True, help_text="Why the provider does not accept one.")


class RunDetailSerializer(RunSerializer):
    """A run with its jobs, each after those that it needs."""

    checks = serializers.SerializerMethodField()
    jobs = serializers.SerializerMethodField()

    @extend_schema_field(RunChecksSerializer(allow_null=True))
    def get_checks(self, _run: Any) -> Any:
        """Where the checks of a run that an event has started are shown. Null if no commit shows them."""
        checks = self.context["checks"]
        return RunChecksSerializer(checks).data if checks else None

    @extend_schema_field(RunJobSerializer(many=True))
    def get_jobs(self, _run: Any) -> Any:
        return RunJobSerializer(self.context["jobs"], many=True, context=self.context).data


class RunCreatedSerializer(serializers.Serializer[Any]):
    run_id = serializers.CharField()
    job_id = serializers.CharField()
    status = serializers.CharField()
