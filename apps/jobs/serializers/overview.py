"""The overview as JSON: what a dashboard shows at a glance."""

from typing import Any

from rest_framework import serializers

from apps.jobs.states import DeploymentStatus


class FleetSerializer(serializers.Serializer[Any]):
    """How many agents there are, without retired ones, and how many have each status."""

    total = serializers.IntegerField()
    healthy = serializers.IntegerField()
    unhealthy = serializers.IntegerField()
    dead = serializers.IntegerField()
    draining = serializers.IntegerField()


class OpenJobsSerializer(serializers.Serializer[Any]):
    """The jobs that have not ended."""

    running = serializers.IntegerField(source="running_count")
    waiting = serializers.IntegerField(source="waiting_count")
    is_lower_bound = serializers.BooleanField(help_text="There are more: only the newest hundred are counted.")


class TodaySerializer(serializers.Serializer[Any]):
    """The jobs that were created and that ended today."""

    day = serializers.DateField(source="today.day", help_text="In UTC.")
    created = serializers.IntegerField(source="today.created")
    completed = serializers.IntegerField(source="today.completed")
    failed = serializers.IntegerField(source="today.failed")
    timed_out = serializers.IntegerField(source="today.timed_out")
    cancelled = serializers.IntegerField(source="today.cancelled")
    skipped = serializers.IntegerField(source="today.skipped")
    error_rate = serializers.FloatField(
        allow_null=True,
        help_text="The share of failed and timed out jobs among those that ended, without cancelled and skipped ones, "
        "from 0 to 1. Null before the first.",
    )


class LastDeploymentSerializer(serializers.Serializer[Any]):
    """The newest deployment that has begun in this month or the two before it."""

    deployment_id = serializers.CharField()
    environment = serializers.CharField()
    pipeline = serializers.CharField()
    status = serializers.ChoiceField([status.value for status in DeploymentStatus])
    opened_at = serializers.CharField(allow_null=True)
    ended_at = serializers.CharField(allow_null=True)


class NextRotationSerializer(serializers.Serializer[Any]):
    """The rotation by schedule that is due next."""

    secret_id = serializers.CharField()
    due_at = serializers.CharField()


class AuditTodaySerializer(serializers.Serializer[Any]):
    """The audit events of today that are sealed, as they are after two to three minutes."""

    events = serializers.IntegerField()
    of_users = serializers.IntegerField(help_text="Of these, the acts of users, themselves or by API tokens.")


class OverviewSerializer(serializers.Serializer[Any]):
    """The state of everything at a glance."""

    agents = FleetSerializer()
    jobs = OpenJobsSerializer()
    today = TodaySerializer()
    last_deployment = LastDeploymentSerializer(allow_null=True)
    next_rotation = NextRotationSerializer(
        allow_null=True, help_text="Null if there is none, or without the permission secrets.read."
    )
    audit_today = AuditTodaySerializer(allow_null=True, help_text="Null without the permission audit.read.")
