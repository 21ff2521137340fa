"""How the control plane is, as JSON."""

from typing import Any

from rest_framework import serializers

from apps.jobs.selectors.status import Health

_HEALTH = [health.value for health in Health]


class ComponentSerializer(serializers.Serializer[Any]):
    """A part of the control plane."""

    name = serializers.CharField()
    health = serializers.ChoiceField(_HEALTH)
    message = serializers.CharField(help_text="A sentence for people.")


class StatusSerializer(serializers.Serializer[Any]):
    """How the control plane is: as the worst of its parts."""

    health = serializers.ChoiceField(_HEALTH)
    components = ComponentSerializer(many=True)
