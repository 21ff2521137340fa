"""Events of connections as JSON, after they were worked off once more."""

from typing import Any

from rest_framework import serializers

from apps.sources.states import DeliveryState


class EventRedeliveredSerializer(serializers.Serializer[Any]):
    """How far an event is. `GET /connections/{connection_id}/events/{event_id}` has all of it."""

    event_id = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in DeliveryState])
    reason = serializers.CharField(allow_null=True)
