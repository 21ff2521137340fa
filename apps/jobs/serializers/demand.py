"""The demand for agents as JSON."""

from typing import Any

from rest_framework import serializers

from apps.agents.states import AgentStatus
from apps.jobs.selectors.demand import Capacity, Demand
from controlplane.http.drf_fields import TextField
from controlplane.lib.errors import InvalidInput
from controlplane.lib.labels import MAX_LABELS, TARGET_PREFIX, names_check, targets_required

# As many labels as an agent may have, and a comma after each.
_MAX_QUERY = MAX_LABELS * 64


class LabelsField(TextField):
    """Labels with commas between them, as agents get them in their options; empty for none."""

    def to_internal_value(self, data: Any) -> list[str]:  # type: ignore[override]
        text = super().to_internal_value(data)
        try:
            return names_check("labels", text.split(",") if text else [])
        except InvalidInput as error:
            raise serializers.ValidationError(error.errors[0]["message"]) from error


class DemandQuerySerializer(serializers.Serializer[Any]):
    """The filter of ``GET /agents/demand``."""

    labels = LabelsField(
        required=False,
        allow_blank=True,
        max_length=_MAX_QUERY,
        help_text="What the agents offer that are to be scaled, such as linux,gpu,deploy:production: their labels, and "
        "their deployment targets after “deploy:”. Without it, the answer is about all jobs and all agents.",
    )


class CapacitySerializer(serializers.Serializer[Any]):
    """How many healthy agents there are of a kind, and their slots."""

    agents = serializers.IntegerField(help_text="Healthy agents; draining, unhealthy and dead ones do not count.")
    slots = serializers.IntegerField()
    used_slots = serializers.IntegerField(
        help_text="Slots that have jobs, also those of agents that are draining or that have just fallen silent."
    )
    free_slots = serializers.IntegerField(
        help_text="Slots that can take a job, by the last heartbeats. Fewer than the rest while agents end."
    )


class LabelSetDemandSerializer(serializers.Serializer[Any]):
    """Jobs that wait with the same labels, and the healthy agents that could take them."""

    name = serializers.CharField(help_text="Labels and targets as one text, as in GET /metrics. Empty without any.")
    labels = serializers.ListField(child=serializers.CharField())
    deployment_targets = serializers.ListField(child=serializers.CharField())
    missing_labels = serializers.ListField(
        child=serializers.CharField(),
        help_text="Those that no healthy agent offers, deployment targets after “deploy:”.",
    )
    waiting = serializers.IntegerField()
    is_lower_bound = serializers.BooleanField(help_text="Whether more jobs wait than were counted.")
    oldest_wait_seconds = serializers.FloatField()
    capacity = CapacitySerializer(help_text="Of the agents that could take these jobs.")
    slots_missing = serializers.IntegerField(
        help_text="Jobs for which no free slot is left. A slot that several label sets could use counts for one."
    )


class StatusesSerializer(serializers.Serializer[Any]):
    """How many agents have each status."""

    healthy = serializers.IntegerField()
    unhealthy = serializers.IntegerField()
    dead = serializers.IntegerField()
    draining = serializers.IntegerField()
    retired = serializers.IntegerField()


class RegionSerializer(serializers.Serializer[Any]):
    """The agents of a region."""

    region = serializers.CharField()
    statuses = StatusesSerializer(help_text="As of the last sweep.")
    capacity = CapacitySerializer(help_text="By the last heartbeats of its agents.")


class DemandSerializer(serializers.Serializer[Any]):
    """What waits for agents, and what room the agents have."""

    waiting = serializers.IntegerField(help_text="Queued jobs. Those that wait for something else do not count.")
    is_lower_bound = serializers.BooleanField(help_text="Whether more jobs wait than were counted.")
    oldest_wait_seconds = serializers.FloatField(help_text="How long the oldest of them has waited; 0 without one.")
    slots_missing = serializers.IntegerField(help_text="Slots to add so that all of these jobs could run now.")
    slots_wanted = serializers.IntegerField(
        help_text="Slots that the agents should have in all: capacity.used_slots and waiting. Scale by this number."
    )
    capacity = CapacitySerializer(help_text="Of all agents, or of those with the labels that were asked for.")
    is_partial = serializers.BooleanField(
        help_text="Whether there may be more agents than the 5,000 that were looked at."
    )
    label_sets = LabelSetDemandSerializer(many=True, help_text="At most 50, those that have waited longest first.")
    regions = RegionSerializer(many=True, help_text="All regions, whatever the labels that were asked for.")


def demand_json(demand: Demand) -> dict[str, Any]:
    """The demand as `DemandSerializer` describes it."""
    return {
        "waiting": demand.waiting,
        "is_lower_bound": demand.is_lower_bound,
        "oldest_wait_seconds": round(demand.oldest_wait_seconds, 1),
        "slots_missing": demand.slots_missing,
        "slots_wanted": demand.slots_wanted,
        "capacity": _capacity_json(demand.capacity),
        "is_partial": demand.is_partial,
        "label_sets": [
            {
                "name": found.name,
                "labels": [label for label in found.labels if not label.startswith(TARGET_PREFIX)],
                "deployment_targets": targets_required(found.labels),
                "missing_labels": list(found.missing_labels),
                "waiting": found.waiting,
                "is_lower_bound": found.is_lower_bound,
                "oldest_wait_seconds": round(found.oldest_wait_seconds, 1),
                "capacity": _capacity_json(found.capacity),
                "slots_missing": found.slots_missing,
            }
            for found in demand.sets
        ],
        "regions": [
            {
                "region": region.name,
                "statuses": {status.value: region.statuses.get(status, 0) for status in AgentStatus},
                "capacity": _capacity_json(region.capacity),
            }
            for region in demand.regions
        ],
    }


def _capacity_json(capacity: Capacity) -> dict[str, int]:
    return {
        "agents": capacity.agents,
        "slots": capacity.slots,
        "used_slots": capacity.used_slots,
        "free_slots": capacity.free_slots,
    }
