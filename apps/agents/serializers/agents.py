"""Agents as JSON, and the requests of people and of new machines."""

import re
from typing import Any

from rest_framework import serializers

from apps.agents.selectors import REGION
from apps.agents.states import MAX_SLOTS, AgentStatus, status_after_silence
from controlplane.http.drf_fields import ChoiceField, ListField, TextField, WholeNumberField
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput
from controlplane.lib.labels import LABEL, MAX_LABELS, agent_labels_check

_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
MAX_TEXT = 255

_STATUSES = [status.value for status in AgentStatus]


class PrintableField(TextField):
    """A text of printable characters; with `form`, all of it matches that."""

    default_error_messages = {"form": "must match {form}", "printable": "must have only printable characters"}  # noqa: RUF012 — as DRF declares it

    def __init__(self, *, form: re.Pattern[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.form = form
        if form:
            self._spectacular_annotation = {"field": {"type": "string", "pattern": f"^{form.pattern}$"}}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not text.isprintable():
            self.fail("printable")
        if self.form and not self.form.fullmatch(text):
            self.fail("form", form=self.form.pattern)
        return text


class EnrolmentSerializer(serializers.Serializer[Any]):
    """The request of a machine to become an agent. Other members are ignored."""

    token = PrintableField(max_length=100, help_text="An enrolment token, hce_…")
    name = PrintableField(form=_NAME, help_text="For people. Two agents may have the same.")
    region = PrintableField(form=REGION)
    labels = ListField(
        child=PrintableField(form=LABEL),
        max_length=MAX_LABELS,
        default=list,
        help_text="A job runs only where all of its labels are.",
    )
    slots = WholeNumberField(
        min_value=1, max_value=MAX_SLOTS, default=1, help_text="How many jobs the agent runs at a time."
    )
    hostname = PrintableField(max_length=MAX_TEXT, allow_blank=True, default="")
    os = PrintableField(max_length=MAX_TEXT, allow_blank=True, default="")
    arch = PrintableField(max_length=MAX_TEXT, allow_blank=True, default="")
    version = PrintableField(max_length=MAX_TEXT, allow_blank=True, default="")

    def validate_labels(self, value: list[str]) -> list[str]:
        try:
            agent_labels_check(value)
        except InvalidInput as error:
            raise serializers.ValidationError(error.errors[0]["message"]) from error
        return value


class CredentialsSerializer(serializers.Serializer[Any]):
    """The identity of a new agent, with the key for its signatures."""

    agent_id = serializers.CharField()
    key_id = serializers.CharField()
    workload_identity_secret = serializers.CharField(help_text="The signing key's 32 bytes in base64.")


class AgentListQuerySerializer(serializers.Serializer[Any]):
    """The filters and the page of ``GET /agents``."""

    region = serializers.RegexField(rf"\A{REGION.pattern}\Z", required=False)
    status = ChoiceField(_STATUSES, required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=100, default=50)
    cursor = serializers.CharField(required=False)


class LeasedJobSerializer(serializers.Serializer[Any]):
    """A job on which an agent has a lease."""

    job_id = serializers.CharField()
    attempt = serializers.IntegerField()
    started = serializers.BooleanField(help_text="Whether the agent has acknowledged it.")


class AgentSerializer(serializers.Serializer[Any]):
    """An agent with its last heartbeat."""

    agent_id = serializers.CharField()
    name = serializers.CharField()
    region = serializers.CharField()
    status = serializers.ChoiceField(choices=_STATUSES)
    status_reason = serializers.CharField(
        allow_null=True, help_text="Why an agent that sends heartbeats is unhealthy, as a sentence."
    )
    labels = serializers.ListField(child=serializers.CharField())
    slots = serializers.IntegerField()
    free_slots = serializers.IntegerField()
    deployment_targets = serializers.ListField(child=serializers.CharField())
    hostname = serializers.CharField()
    os = serializers.CharField()
    arch = serializers.CharField()
    version = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_heartbeat = serializers.DateTimeField(allow_null=True)
    cpu_percent = serializers.FloatField(allow_null=True)
    memory_percent = serializers.FloatField(allow_null=True)
    disk_percent = serializers.FloatField(allow_null=True)
    jobs_queued = serializers.IntegerField()
    jobs_completed = serializers.IntegerField()
    uptime_seconds = serializers.IntegerField()
    running_jobs = LeasedJobSerializer(many=True)


class AgentPageSerializer(serializers.Serializer[Any]):
    """A page of agents, by region and then by age."""

    agents = AgentSerializer(many=True)
    total = serializers.IntegerField(help_text="How many agents match the filters.")
    next_cursor = serializers.CharField(allow_null=True)


def agent_json(agent: Any, heartbeat: Any) -> dict[str, Any]:
    """An agent and its last heartbeat, None without one, as `AgentSerializer` describes them."""
    reported = heartbeat is not None and heartbeat.created > 0
    numbers = ("free_slots", "jobs_queued", "jobs_completed", "uptime_seconds")
    return {
        "agent_id": agent.agent_id,
        "name": agent.name,
        "region": agent.region,
        "status": agent.status,
        "status_reason": heartbeat.status_reason if heartbeat else None,
        "labels": list(agent.labels),
        "slots": int(agent.slots),
        "deployment_targets": list(agent.deployment_targets),
        "hostname": agent.hostname,
        "os": agent.os,
        "arch": agent.arch,
        "version": agent.version,
        "created_at": agent.created_at,
        "last_heartbeat": heartbeat.at if reported else None,
        **{
            name: getattr(heartbeat, name) if reported else None
            for name in ("cpu_percent", "memory_percent", "disk_percent")
        },
        **{name: int(getattr(heartbeat, name)) if reported else 0 for name in numbers},
        "running_jobs": [
            {"job_id": job_id, "attempt": lease.attempt, "started": lease.started}
            for job_id, lease in sorted(heartbeat.leases.items() if heartbeat else ())
        ],
    }


def effective_status(agent: Any, heartbeat: Any) -> str:
    """The agent's status as a sweep would set it now."""
    if heartbeat is None:
        return str(agent.status)
    silence = clock.now() - clock.parse_timestamp(heartbeat.at)
    return status_after_silence(AgentStatus(agent.status), silence.total_seconds()).value
