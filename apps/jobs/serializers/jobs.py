"""Jobs as JSON, and the parameters of requests about them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.urls import get_script_prefix
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.jobs.label_sets import DEFAULT_PRIORITY, HIGHEST_PRIORITY
from apps.jobs.selectors import WaitingCode, job_attempts, job_log_problem, job_retries_left, job_waits
from apps.jobs.selectors.log_search import MAX_QUESTION
from apps.jobs.selectors.waiting import AHEAD_AT_MOST
from apps.jobs.states import AttemptEnd, Status, StepState
from apps.pipelines.definitions import ENV_NAME, pipeline_name_validate
from apps.pipelines.refs import ref_validate
from controlplane.http.drf_fields import (
    ChoiceField,
    DayField,
    DictField,
    FlagField,
    ListField,
    TextField,
    WholeNumberField,
)
from controlplane.lib import clock
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import ID_PATTERN
from controlplane.lib.labels import LABEL, MAX_LABELS

# The item of a job must stay far below DynamoDB's limit of 400 KB.
MAX_ENV_BYTES = 16 * 1024
MAX_ENV_ENTRIES = 1000


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

    env = DictField(
        child=TextField(allow_blank=True),
        required=False,
        max_entries=MAX_ENV_ENTRIES,
        help_text="Environment variables for all steps.",
    )
    labels = ListField(
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
    ended = DayField(
        required=False,
        help_text="The day, in UTC, on which the jobs ended. It needs a `status` that jobs end with.",
    )
    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


# The most bytes of a log in one response, well below Lambda's limit.
LOG_SLICE_BYTES = 1_000_000


_MAX_NUMBER = 2**53


class _NumberField(WholeNumberField):
    """The number of something that is counted from 1, or none."""

    def __init__(self, help_text: str) -> None:
        super().__init__(required=False, min_value=1, max_value=_MAX_NUMBER, help_text=help_text)


class JobLogQuerySerializer(serializers.Serializer[Any]):
    """Which part of a log, in bytes from an offset or in lines from the end, or all of it as a file."""

    offset = WholeNumberField(
        required=False,
        min_value=0,
        max_value=_MAX_NUMBER,
        default=0,
        help_text="In bytes, from the beginning of the log, of the `attempt`, or of the `step`.",
    )
    limit = WholeNumberField(
        required=False,
        min_value=1,
        max_value=LOG_SLICE_BYTES,
        default=LOG_SLICE_BYTES,
        help_text="The most bytes. Where the log has more, the part ends with a line, unless a line is longer.",
    )
    tail = WholeNumberField(
        required=False,
        min_value=1,
        max_value=100_000,
        help_text="The last so many lines, whatever the `offset`.",
    )
    attempt = _NumberField("The number of an attempt. Default: all attempts, one after the other.")
    step = _NumberField(
        "The number of a step, from 1, in the order of the job's `steps`: only its output, from its title on. Without "
        "`attempt`, of the newest attempt that has begun."
    )
    timestamps = FlagField(
        required=False,
        default=False,
        help_text="Put before each line when it was printed, in RFC 3339 with milliseconds, and a space; `-` if that "
        "is not known. `offset`, `limit` and the headers count the bytes of the log without these times. Not with "
        "`download`.",
    )
    download = FlagField(
        required=False,
        default=False,
        help_text="The whole log as a file; `?download` alone means yes.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["timestamps"] and attrs["download"]:
            raise serializers.ValidationError({"timestamps": "must not be given with download; read the log in parts"})
        return attrs


class JobLogSearchQuerySerializer(serializers.Serializer[Any]):
    """What to search a log for, and where."""

    q = TextField(max_length=MAX_QUESTION, help_text="A text, or with `regex` a regular expression of Python's `re`.")
    regex = FlagField(required=False, default=False)
    case = FlagField(required=False, default=False, help_text="Whether upper and lower case differ.")
    attempt = _NumberField("The number of an attempt. Default: the newest that has begun.")
    step = _NumberField("The number of a step, from 1: only its lines.")
    from_line = WholeNumberField(
        required=False,
        min_value=1,
        max_value=_MAX_NUMBER,
        default=1,
        help_text="The line to begin at: 1, or `next_line` of the page before.",
    )
    limit = WholeNumberField(required=False, min_value=1, max_value=200, default=50, help_text="The most hits.")
    context = WholeNumberField(  # type: ignore[assignment]
        required=False, min_value=0, max_value=10, default=2, help_text="The lines before and after each hit."
    )


class LogHitSerializer(serializers.Serializer[Any]):
    """A line that matches, without colours, and the lines around it: at most 16 KiB of each."""

    line = serializers.IntegerField(source="number", help_text="The number of the line, from 1.")
    at = serializers.SerializerMethodField()
    text = serializers.CharField()
    before = serializers.ListField(child=serializers.CharField())
    after = serializers.ListField(child=serializers.CharField())

    def get_at(self, hit: Any) -> str | None:
        """When it was printed, if that is known."""
        at = datetime.fromtimestamp(hit.milliseconds / 1000, UTC)
        return clock.timestamp(at) if hit.milliseconds else None


class LogSearchSerializer(serializers.Serializer[Any]):
    """A page of hits in an attempt's log, in the order of the lines."""

    attempt = serializers.IntegerField()
    hits = LogHitSerializer(many=True)
    total = serializers.IntegerField(help_text="The hits from `from_line` on, as far as the search came.")
    total_is_lower_bound = serializers.BooleanField(
        help_text="Whether the search took too long, so that there may be more. `next_line` goes on."
    )
    searched_to = serializers.IntegerField(help_text="The last line that was searched.")
    next_line = serializers.IntegerField(
        allow_null=True, help_text="Where the next page begins (`from_line`), or null after the last one."
    )
    log_complete = serializers.BooleanField(help_text="Whether the attempt has ended, so that no more lines come.")


class StepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in StepState])
    exit_code = serializers.IntegerField(allow_null=True, default=None)
    started_at = serializers.CharField(allow_null=True, default=None)
    completed_at = serializers.CharField(allow_null=True, default=None)


class AttemptSerializer(serializers.Serializer[Any]):
    """An attempt of a job."""

    number = serializers.IntegerField()
    agent_id = serializers.CharField(allow_null=True)
    agent_name = serializers.CharField(allow_null=True)
    assigned_at = serializers.CharField(allow_null=True)
    started_at = serializers.CharField(allow_null=True)
    ended_at = serializers.CharField(allow_null=True)
    outcome = serializers.CharField(
        allow_null=True, help_text="The status that the job ended with, `queued` if it was queued again, or null."
    )
    end = serializers.ChoiceField(
        choices=[end.value for end in AttemptEnd],
        allow_null=True,
        help_text="How the attempt itself ended, or null while it goes on.",
    )
    reason = serializers.CharField(
        allow_null=True,
        help_text="Why the attempt ended, in words, as in “lost: no heartbeat for 45 s”; null for one that completed.",
    )


class WaitingSerializer(serializers.Serializer[Any]):
    """What a job waits for."""

    code = serializers.ChoiceField(choices=[code.value for code in WaitingCode])
    message = serializers.CharField(help_text="What it waits for and what happens next, as a sentence.")
    since = serializers.CharField(help_text="When it began to wait.")
    jobs_ahead = serializers.IntegerField(
        allow_null=True,
        help_text=f"How many jobs with the same labels come before it, {AHEAD_AT_MOST} at most; null if unknown.",
    )
    agents = serializers.IntegerField(help_text="How many agents have all of its labels, 100 at most.")
    missing_labels = serializers.ListField(
        child=serializers.CharField(), help_text="Those of its labels that no agent has."
    )
    estimated_start = serializers.CharField(
        allow_null=True,
        help_text="When it likely starts, by how many jobs the busy agents have ended in the last hour; null if none.",
    )
    offline_since = serializers.CharField(
        allow_null=True, help_text="When the last of its agents went silent, if all of them are offline."
    )


class JobSerializer(serializers.Serializer[Any]):
    """A job in a list. Times are RFC 3339 in UTC."""

    job_id = serializers.CharField()
    run_id = serializers.CharField()
    name = serializers.SerializerMethodField()
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
    retried_by = serializers.SerializerMethodField()
    cancel_requested = serializers.SerializerMethodField()
    created_at = serializers.CharField()
    started_at = serializers.CharField(allow_null=True)
    completed_at = serializers.CharField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    logs_url = serializers.SerializerMethodField()
    error_message = serializers.CharField(allow_null=True)

    def get_name(self, job: Any) -> str | None:
        """The name of the job in its run; null for the only job of a run."""
        return None if job.is_first else job.node

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_retried_by(self, job: Any) -> Any:
        """The ids of the jobs that are retries of this one, the newest last; of very many, only the newest 20."""
        return list(job.retried_by or ())

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
    attempts = serializers.SerializerMethodField()
    retries_left = serializers.SerializerMethodField()
    waiting = serializers.SerializerMethodField()
    log_problem = serializers.SerializerMethodField()

    @extend_schema_field(StepSerializer(many=True))
    def get_steps(self, _job: Any) -> Any:
        """The current steps, from the context: a running job's steps are in its agent's reports, not in its record."""
        return StepSerializer(self.context["steps"], many=True).data

    @extend_schema_field(AttemptSerializer(many=True))
    def get_attempts(self, job: Any) -> Any:
        """The attempts so far, the first one first. A moment ago's may be missing."""
        return AttemptSerializer(job_attempts(job), many=True).data

    def get_retries_left(self, job: Any) -> int:
        """How many more attempts may be lost with their agents before the job fails."""
        return job_retries_left(job)

    @extend_schema_field(WaitingSerializer(allow_null=True))
    def get_waiting(self, job: Any) -> Any:
        """What the job waits for while it waits or is queued; null otherwise. Its counts may lag by seconds."""
        waiting = job_waits(job)
        return WaitingSerializer(waiting).data if waiting else None

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
    run_id = serializers.CharField()


def _valid(check: Any, value: str) -> str:
    """Convert the error of our own check to DRF's."""
    try:
        check(value)
    except InvalidInput as error:
        raise serializers.ValidationError(error.errors[0]["message"] if error.errors else error.message) from error
    return value
