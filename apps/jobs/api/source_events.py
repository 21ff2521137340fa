"""``POST /connections/{connection_id}/events/{event_id}/redeliver``: work an event off once more."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.jobs.serializers.source_events import EventRedeliveredSerializer
from apps.jobs.services.event_starts import event_redeliver
from controlplane.http.openapi import problems

_parameters = [
    OpenApiParameter("connection_id", {"type": "string", "maxLength": 63}, OpenApiParameter.PATH),
    OpenApiParameter("event_id", {"type": "string", "maxLength": 32}, OpenApiParameter.PATH),
]


class ConnectionEventRedeliverView(APIView):
    @extend_schema(
        parameters=_parameters,
        request=None,
        responses={200: EventRedeliveredSerializer, **problems(409)},
        operation_id="connections_events_redeliver",
        tags=["connections"],
    )
    def post(self, request: Request, connection_id: str, event_id: str) -> Response:
        """Work the event off once more. A pipeline that has a run of it already gets another one."""
        delivery = event_redeliver(actor=request_actor(request), connection_id=connection_id, event_id=event_id)
        return Response(EventRedeliveredSerializer(delivery).data)
