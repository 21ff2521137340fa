"""Schedules as JSON. The services check what makes a cron expression, a time zone or a ref valid."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.jobs.serializers.runs import MAX_PARAMETERS, ParameterField
from apps.jobs.states import RunStatus
from apps.pipelines.selectors import schedule_times
from controlplane.http.drf_fields import DictField, TextField
from controlplane.lib.cron import MAX_CRON

_CRON = (
    "Minute, hour, day of the month, month and day of the week, as cron has them. H stands for a number that the "
    "schedule keeps: H 3 * * 1-5 is on workdays at some minute after three, H/15 * * * * every 15 minutes."
)


class ScheduleChangeSerializer(serializers.Serializer[Any]):
    """The body of ``PATCH /schedules/{schedule_id}``: what is left out stays."""

    cron = TextField(required=False, max_length=MAX_CRON, help_text=_CRON)
    zone = TextField(required=False, max_length=64, help_text="A time zone, such as Europe/Berlin.")
    git_ref = TextField(
        required=False,
        allow_null=True,
        max_length=255,
        help_text="A branch, tag or commit; null: the pipeline's default ref at the time of the run.",
    )
    parameters = DictField(
        child=ParameterField(),
        required=False,
        max_entries=MAX_PARAMETERS,
        help_text="The values of the pipeline's parameters.",
    )
    only_if_changed = serializers.BooleanField(
        required=False,
        help_text="End a run before its jobs if the last finished run of this schedule built the same commit, of the "
        "same ref with the same parameters and pipeline.",
    )


class ScheduleCreateSerializer(ScheduleChangeSerializer):
    """The body of ``POST /pipelines/{name}/schedules``."""

    name = TextField(max_length=63, help_text="Small letters, digits, - and _. It cannot be changed later.")
    cron = TextField(max_length=MAX_CRON, help_text=_CRON)
    zone = TextField(default="UTC", max_length=64, help_text="A time zone, such as Europe/Berlin.")


class PipelineScheduleSerializer(serializers.Serializer[Any]):
    """A schedule. Times are RFC 3339 in UTC."""

    schedule_id = serializers.CharField(help_text="The pipeline, a point, and the name.")
    pipeline = serializers.CharField()
    name = serializers.CharField()
    cron = serializers.CharField()
    zone = serializers.CharField()
    git_ref = serializers.CharField(allow_null=True, help_text="Null: the pipeline's default ref.")
    parameters = serializers.SerializerMethodField()
    only_if_changed = serializers.BooleanField()
    next_times = serializers.SerializerMethodField()
    last_due_at = serializers.CharField(allow_null=True, help_text="The last time that was due.")
    last_run_id = serializers.CharField(allow_null=True, help_text="The run that it started last.")
    last_run_status = serializers.SerializerMethodField()
    problem = serializers.CharField(
        allow_null=True, help_text="Why the last time that was due started no run; null if it started one."
    )
    paused_at = serializers.CharField(allow_null=True)
    paused_by = serializers.CharField(allow_null=True)
    revision = serializers.IntegerField(help_text="Counts the changes by users.")
    created_at = serializers.CharField()
    created_by = serializers.CharField()
    changed_at = serializers.CharField()
    changed_by = serializers.CharField()

    @extend_schema_field(serializers.DictField())
    def get_parameters(self, schedule: Any) -> Any:
        return dict(schedule.parameters or {})

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_next_times(self, schedule: Any) -> list[str]:
        """The next three times; none while it is paused."""
        return schedule_times(schedule)

    @extend_schema_field(serializers.ChoiceField(choices=[status.value for status in RunStatus], allow_null=True))
    def get_last_run_status(self, schedule: Any) -> str | None:
        status = self.context["statuses"].get(schedule.last_run_id)
        return str(status) if status else None


class PipelineSchedulesSerializer(serializers.Serializer[Any]):
    """The schedules of a pipeline by name."""

    schedules = PipelineScheduleSerializer(many=True)
