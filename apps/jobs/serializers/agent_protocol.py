"""What agents send and get, for the OpenAPI document. The checks are in `agent_reports` and in `apps.agents`."""

from typing import Any

from rest_framework import serializers

from apps.jobs.states import StepState

MAX_ATTEMPT = 1_000_000
_MOST = 2**53


class AssignmentSerializer(serializers.Serializer[Any]):
    """An attempt that is offered until the agent starts it."""

    job_id = serializers.CharField()
    attempt = serializers.IntegerField(min_value=1, max_value=MAX_ATTEMPT)


class StepReportSerializer(serializers.Serializer[Any]):
    """How a step stands."""

    name = serializers.CharField(max_length=100)
    state = serializers.ChoiceField(choices=[state.value for state in StepState])
    exit_code = serializers.IntegerField(allow_null=True, required=False, min_value=-(2**31), max_value=2**32)
    started_at = serializers.DateTimeField(allow_null=True, required=False)
    completed_at = serializers.DateTimeField(allow_null=True, required=False)


class RunningSerializer(AssignmentSerializer):
    """An attempt that the agent has not finished yet."""

    steps = StepReportSerializer(many=True, required=False, max_length=100)  # type: ignore[call-arg]


class HeartbeatSerializer(serializers.Serializer[Any]):
    """How the agent is, what it runs and what it could take."""

    agent_id = serializers.CharField()
    cpu_percent = serializers.FloatField(min_value=0, max_value=100)
    memory_percent = serializers.FloatField(min_value=0, max_value=100)
    disk_percent = serializers.FloatField(min_value=0, max_value=100)
    jobs_queued = serializers.IntegerField(min_value=0, max_value=_MOST)
    jobs_completed = serializers.IntegerField(min_value=0, max_value=_MOST)
    uptime_seconds = serializers.IntegerField(min_value=0, max_value=_MOST)
    free_slots = serializers.IntegerField(min_value=0, max_value=64, required=False)
    running = RunningSerializer(many=True, required=False, max_length=64)  # type: ignore[call-arg]
    config_version = serializers.IntegerField(allow_null=True, required=False, min_value=0, max_value=_MOST)


class CommandSerializer(AssignmentSerializer):
    """What is wished of a running attempt: cancel it, or abandon it since it is another agent's now."""

    wish = serializers.ChoiceField(choices=["cancel", "abandon"])


class HeartbeatAnswerSerializer(serializers.Serializer[Any]):
    """What the agent gets and is to stop, and when to ask again."""

    status = serializers.CharField()
    next_check_interval = serializers.IntegerField(help_text="Seconds.")
    config_version = serializers.IntegerField()
    jobs = AssignmentSerializer(many=True)
    wishes = CommandSerializer(many=True)


class AttemptSerializer(serializers.Serializer[Any]):
    """Which attempt is meant."""

    attempt = serializers.IntegerField(min_value=1, max_value=MAX_ATTEMPT)


class StepDefinitionSerializer(serializers.Serializer[Any]):
    """A step to run; `timeout` in seconds."""

    name = serializers.CharField()
    run = serializers.CharField()
    env = serializers.DictField(child=serializers.CharField())
    timeout = serializers.IntegerField(allow_null=True)


class WorkSerializer(serializers.Serializer[Any]):
    """What to run; `timeout` in seconds for the whole job."""

    steps = StepDefinitionSerializer(many=True)
    env = serializers.DictField(child=serializers.CharField())
    timeout = serializers.IntegerField(allow_null=True)


class StartAnswerSerializer(AssignmentSerializer):
    """Everything that is needed to run the attempt. Without a definition, the repository's own file holds."""

    run_id = serializers.CharField()
    pipeline = serializers.CharField()
    repository = serializers.CharField()
    git_ref = serializers.CharField()
    env = serializers.DictField(child=serializers.CharField())
    timeout = serializers.IntegerField(allow_null=True)
    definition = WorkSerializer(allow_null=True)
    definition_path = serializers.CharField()


class DefinitionReportSerializer(AttemptSerializer):
    """The pipeline file as it stands in the checkout."""

    commit = serializers.CharField(allow_null=True, required=False, max_length=64)
    text = serializers.CharField()


class LogAnswerSerializer(serializers.Serializer[Any]):
    """What is wished of the attempt that prints."""

    wish = serializers.ChoiceField(choices=["cancel"], allow_null=True)


class FinishSerializer(AttemptSerializer):
    """How the attempt ended."""

    exit_code = serializers.IntegerField(allow_null=True, required=False, min_value=-(2**31), max_value=2**32)
    error_message = serializers.CharField(allow_null=True, required=False)
    steps = StepReportSerializer(many=True, required=False, max_length=100)  # type: ignore[call-arg]
    log_chunks = serializers.IntegerField(min_value=0, max_value=10_000_000)
    commit = serializers.CharField(allow_null=True, required=False, max_length=64)
    wants_next = serializers.BooleanField(required=False, default=True)


class FinishAnswerSerializer(serializers.Serializer[Any]):
    """The next attempt for the slot that has become free, if work waits."""

    next = AssignmentSerializer(allow_null=True)
