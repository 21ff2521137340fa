"""Secrets as JSON, which never has their values. The services check what makes a name or a value valid."""

from typing import Any

from rest_framework import serializers

from apps.secrets.rotation.schedules import MAX_DAYS
from apps.secrets.rotation.steps import MAX_OVERLAP_MINUTES, MAX_TARGETS
from apps.secrets.states import MAX_BRANCHES, MAX_BYTES, MIN_CHARACTERS, NAME
from controlplane.http.drf_fields import ListField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH

_VALUE = f"{MIN_CHARACTERS} characters to {MAX_BYTES:,} bytes of UTF-8. It cannot be read back."


def _value() -> Any:
    # The service counts the bytes.
    return TextField(min_length=MIN_CHARACTERS, max_length=MAX_BYTES, write_only=True, help_text=_VALUE)


class ScopeSerializer(serializers.Serializer[Any]):
    """Which jobs may get a secret. It cannot be changed: create another secret of the same name instead."""

    pipeline = TextField(default=None, allow_null=True, max_length=63, help_text="Jobs of this pipeline; null: of all.")
    environment = TextField(
        default=None,
        allow_null=True,
        max_length=63,
        help_text="Jobs that deploy to this environment, on agents with the deployment target of the same name; null: "
        "all jobs.",
    )
    branches = ListField(
        child=TextField(max_length=255),
        default=list,
        max_length=MAX_BRANCHES,
        help_text="Jobs of branches that one of these patterns matches, as release/*; empty: of all refs.",
    )
    pull_requests = serializers.BooleanField(
        default=False, help_text="Whether jobs of pull requests get it, too. Those of forks never get a secret."
    )


class SecretCreateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /secrets``."""

    name = serializers.RegexField(
        rf"\A{NAME.pattern}\Z",
        trim_whitespace=False,
        max_length=64,
        error_messages={"invalid": "must be capital letters, digits and _, beginning with a letter"},
        help_text="The variable in which steps get the value.",
    )
    value = _value()
    scope = ScopeSerializer(required=False)
    description = TextField(default=None, allow_null=True, max_length=500, help_text="What it is for.")
    owner = TextField(
        default=None, allow_null=True, max_length=500, help_text="Who answers for it. Default: the user who creates it."
    )


class SecretChangeSerializer(serializers.Serializer[Any]):
    """The body of ``PATCH /secrets/{secret_id}``: what is left out stays."""

    description = TextField(required=False, max_length=500)
    owner = TextField(required=False, max_length=500)


class SecretValueSerializer(serializers.Serializer[Any]):
    """The body of ``PUT /secrets/{secret_id}/value``."""

    value = _value()


class PageQuerySerializer(serializers.Serializer[Any]):
    """Which page of a list to return."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=50)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class SecretSerializer(serializers.Serializer[Any]):
    """What is known of a secret. Times are RFC 3339 in UTC."""

    secret_id = serializers.CharField()
    name = serializers.CharField()
    scope = ScopeSerializer()
    description = serializers.CharField(allow_null=True)
    owner = serializers.CharField()
    version = serializers.IntegerField(source="current", help_text="The number of the current version.")
    fingerprint = serializers.CharField(
        help_text="Tells values of this secret apart. It is keyed, so that no guess can be tried on it."
    )
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    changed_at = serializers.DateTimeField(help_text="Since when it has this value.")
    changed_by = serializers.CharField()
    delivered_at = serializers.DateTimeField(allow_null=True, help_text="When a job last got it, to the minute.")


class SecretPageSerializer(serializers.Serializer[Any]):
    """A page of secrets by id."""

    secrets = SecretSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class SecretVersionSerializer(serializers.Serializer[Any]):
    """A version of a secret."""

    version = serializers.IntegerField(source="number")
    state = serializers.CharField(help_text="pending, current, previous, retired, reverted or deleted")
    fingerprint = serializers.CharField()
    rotation_id = serializers.CharField(allow_null=True, help_text="The rotation that made it; null: a user set it.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    ended_at = serializers.DateTimeField(allow_null=True, help_text="When its value was deleted.")


class SecretVersionsSerializer(serializers.Serializer[Any]):
    """The newest 50 versions of a secret, newest first."""

    versions = SecretVersionSerializer(many=True)


class SecretDeliverySerializer(serializers.Serializer[Any]):
    """One delivery of a secret to an attempt of a job."""

    at = serializers.DateTimeField()
    version = serializers.IntegerField()
    fingerprint = serializers.CharField()
    job_id = serializers.CharField()
    attempt = serializers.IntegerField()
    run_id = serializers.CharField()
    pipeline = serializers.CharField()
    agent_id = serializers.CharField()
    agent = serializers.CharField(help_text="Its name at that time.")


class SecretDeliveriesSerializer(serializers.Serializer[Any]):
    """A page of deliveries, newest first. It may be shorter than the limit and still have a next one."""

    deliveries = SecretDeliverySerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ScheduleSerializer(serializers.Serializer[Any]):
    """When a secret is rotated by itself."""

    every_days = WholeNumberField(min_value=1, max_value=MAX_DAYS)
    at = TextField(max_length=5, help_text="The time of day in the zone, such as 03:00.")
    weekday = TextField(
        default=None,
        allow_null=True,
        max_length=9,
        help_text="Such as friday: the last one that is not later than every_days after the rotation before.",
    )
    zone = TextField(default="UTC", max_length=64, help_text="A time zone, such as Europe/Berlin.")


class RotationTargetSerializer(serializers.Serializer[Any]):
    """A system that holds a copy."""

    name = TextField(max_length=40, help_text="Small letters, digits and -.")
    kind = TextField(max_length=64, help_text="The name of a target: docs/rotation.md lists them.")
    config = serializers.DictField(required=False, help_text="What docs/rotation.md says of the target.")


class RotationConfigurationSerializer(serializers.Serializer[Any]):
    """The body of ``PUT /secrets/{secret_id}/rotation``."""

    rotator = TextField(max_length=64, help_text="The name of a rotator: docs/rotation.md lists them.")
    config = serializers.DictField(required=False, help_text="What docs/rotation.md says of the rotator.")
    targets = ListField(child=RotationTargetSerializer(), required=False, max_length=MAX_TARGETS)
    schedule = ScheduleSerializer(required=False, allow_null=True, help_text="null: only when a user asks for it.")
    overlap_minutes = WholeNumberField(
        required=False,
        min_value=0,
        max_value=MAX_OVERLAP_MINUTES,
        help_text="How long the old value stays valid after the change. Default: a day, or what the rotator needs.",
    )


class RotationPlanSerializer(serializers.Serializer[Any]):
    """How a secret is rotated. Times are RFC 3339 in UTC."""

    secret_id = serializers.CharField()
    rotator = serializers.CharField()
    config = serializers.DictField(source="rotator_config")
    targets = RotationTargetSerializer(many=True)
    schedule = ScheduleSerializer(allow_null=True)
    overlap_minutes = serializers.IntegerField()
    changed_at = serializers.DateTimeField()
    changed_by = serializers.CharField()
    rotation_id = serializers.CharField(
        source="open_id", allow_null=True, help_text="The rotation that has not ended, if there is one."
    )
    last_rotated_at = serializers.DateTimeField(allow_null=True, help_text="When a new value last became current.")
    next_at = serializers.DateTimeField(source="due_at", allow_null=True, help_text="When the next rotation is due.")


class RotationStepSerializer(serializers.Serializer[Any]):
    """A step of a rotation."""

    act = serializers.CharField(help_text="prepare, make, apply, verify, activate, commit, retire, revert or withdraw")
    system = serializers.CharField(help_text="rotator, store, or the name of a target")
    begun_at = serializers.DateTimeField(allow_null=True, default=None)
    done_at = serializers.DateTimeField(allow_null=True, default=None)
    failed_at = serializers.DateTimeField(allow_null=True, default=None)
    calls = serializers.IntegerField(default=0, help_text="How many of its calls have failed.")
    message = serializers.CharField(allow_null=True, default=None, help_text="Why it failed, or what it waits for.")


class RotationSerializer(serializers.Serializer[Any]):
    """A rotation. Times are RFC 3339 in UTC."""

    rotation_id = serializers.CharField()
    secret_id = serializers.CharField()
    state = serializers.CharField(help_text="rotating, overlap, retiring, completed, reverting or failed")
    requested_by = serializers.CharField(help_text="A user's name, or schedule.")
    rotator = serializers.CharField()
    old_version = serializers.IntegerField()
    new_version = serializers.IntegerField(allow_null=True)
    began_at = serializers.DateTimeField()
    activated_at = serializers.DateTimeField(allow_null=True, help_text="When the new value became current.")
    overlap_until = serializers.DateTimeField(allow_null=True, help_text="Until when the old value is valid.")
    ended_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(allow_null=True, help_text="Why it was reverted.")
    message = serializers.CharField(allow_null=True, help_text="What it waits for.")
    steps = RotationStepSerializer(many=True)


class RotationPageSerializer(serializers.Serializer[Any]):
    """A page of rotations, newest first."""

    rotations = RotationSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)
