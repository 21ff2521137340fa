"""Jobs as JSON, and the parameters of requests about them."""

from collections.abc import Mapping
from typing import Any

from django.urls import get_script_prefix
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.jobs.label_sets import DEFAULT_PRIORITY, HIGHEST_PRIORITY
from apps.jobs.selectors import job_log_problem
from apps.jobs.states import Status, StepState
from apps.pipelines.definitions import ENV_NAME, pipeline_name_validate
from apps.pipelines.refs import ref_validate
from controlplane.http.drf_fields import ChoiceField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import ID_PATTERN
from controlplane.lib.labels import LABEL, MAX_LABELS

# The item of a job must stay far below DynamoDB's limit of 400 KB.
MAX_ENV_BYTES = 16 * 1024


class JobCreateQuerySerializer(serializers.Serializer[Any]):
    """The query parameters of ``POST /jobs``."""

    git_ref = TextField(
        required=False, max_length=255, help_text="Branch, tag or commit. Default: the pipeline's default ref."
    )
    pipeline = TextField(required=False, max_length=63, help_text="Name of a pipeline. Default: the default pipeline.")
    priority = WholeNumberField(
        required=False,
        min_value=0,
        max_value=HIGHEST_PRIORITY,
        default=DEFAULT_PRIORITY,
        help_text="Jobs with a higher priority run sooner.",
    )

    def validate_git_ref(self, value: str) -> str:
        return _valid(ref_validate, value)

    def validate_pipeline(self, value: str) -> str:
        return _valid(pipeline_name_validate, value)


class JobCreateSerializer(JobCreateQuerySerializer):
    """The JSON body of ``POST /jobs``."""

    env = serializers.DictField(
        child=TextField(allow_blank=True), required=False, help_text="Environment variables for all steps."
    )
    labels = serializers.ListField(
        child=TextField(max_length=63),
        required=False,
        max_length=MAX_LABELS,
        help_text="Labels that the agent must have, in addition to those of the pipeline.",
    )

    def validate_labels(self, value: list[str]) -> list[str]:
        for label in value:
            if not LABEL.fullmatch(label):
                raise serializers.ValidationError(f"“{label}” is not a label: letters, digits and . _ : / = - only")
        return value

    def validate_env(self, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value:
            if not ENV_NAME.fullmatch(name):
                raise serializers.ValidationError(f"“{name[:100]}” is not the name of an environment variable")
        if sum(len(name.encode()) + len(text.encode()) for name, text in value.items()) > MAX_ENV_BYTES:
            raise serializers.ValidationError(f"all variables together have at most {MAX_ENV_BYTES} bytes")
        return value


class JobListQuerySerializer(serializers.Serializer[Any]):
    """The filters of ``GET /jobs``."""

    status = ChoiceField([status.value for status in Status], required=False)
    pipeline = TextField(required=False, max_length=63)
    git_ref = TextField(required=False, max_length=255)
    agent = serializers.RegexField(
        rf"^{ID_PATTERN}$",
        max_length=26,
        required=False,
        source="agent_id",
        help_text="Id of the agent that started the job's last attempt.",
    )
    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class JobLogQuerySerializer(serializers.Serializer[Any]):
    """The offset and the length of a part of a log."""

    offset = WholeNumberField(required=False, min_value=0, max_value=2**53, default=0)


class StepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in StepState])
    exit_code = serializers.IntegerField(allow_null=True, default=None)
    started_at = serializers.CharField(allow_null=True, default=None)
    completed_at = serializers.CharField(allow_null=True, default=None)


class JobSerializer(serializers.Serializer[Any]):
    """A job in a list. Times are RFC 3339 in UTC."""

    job_id = serializers.CharField()
    run_id = serializers.CharField()
    pipeline = serializers.CharField()
    status = serializers.ChoiceField(choices=[status.value for status in Status])
    git_ref = serializers.CharField()
    commit = serializers.CharField(allow_null=True)
    agent_id = serializers.CharField(allow_null=True)
    agent_name = serializers.CharField(allow_null=True)
    attempt = serializers.IntegerField()
    priority = serializers.IntegerField()
    labels = serializers.ListField(child=serializers.CharField())
    requested_by = serializers.CharField()
    retry_of = serializers.CharField(allow_null=True)
    cancel_requested = serializers.SerializerMethodField()
    created_at = serializers.CharField()
    started_at = serializers.CharField(allow_null=True)
    completed_at = serializers.CharField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    logs_url = serializers.SerializerMethodField()
    error_message = serializers.CharField(allow_null=True)

    def get_cancel_requested(self, job: Any) -> bool:
        return bool(job.cancel_requested)

    def get_logs_url(self, job: Any) -> str:
        """The URL of the whole log, also while the job runs."""
        # Under AWS's own address, the prefix is the stage.
        url: str = self.context["request"].build_absolute_uri(f"{get_script_prefix()}jobs/{job.job_id}/log")
        return url


class JobDetailSerializer(JobSerializer):
    """A job with its steps. `env` is left out, because its values may be confidential."""

    steps = serializers.SerializerMethodField()
    log_problem = serializers.SerializerMethodField()

    @extend_schema_field(StepSerializer(many=True))
    def get_steps(self, _job: Any) -> Any:
        """The current steps, from the context: a running job's steps are in its agent's reports, not in its record."""
        return StepSerializer(self.context["steps"], many=True).data

    def get_log_problem(self, job: Any) -> str | None:
        """Why the log of the ended job is still not archived, after several tries. It can be read for 14 days."""
        return job_log_problem(job)


class JobPageSerializer(serializers.Serializer[Any]):
    """A page of jobs, newest first."""

    jobs = JobSerializer(many=True)
    total = serializers.IntegerField()
    total_is_lower_bound = serializers.BooleanField(help_text="Whether there may be more than `total` jobs.")
    next_cursor = serializers.CharField(allow_null=True)


class JobCreatedSerializer(serializers.Serializer[Any]):
    job_id = serializers.CharField()
    status = serializers.CharField()


def _valid(check: Any, value: str) -> str:
    """Convert the error of our own check to DRF's."""
    try:
        check(value)
    except InvalidInput as error:
        raise serializers.ValidationError(error.errors[0]["message"] if error.errors else error.message) from error
    return value
