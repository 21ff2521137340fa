"""``GET /auth/whoami``: whose credentials a request has."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.serializers.callers import CallerSerializer


class CallerView(APIView):
    @extend_schema(responses=CallerSerializer, operation_id="auth_whoami", tags=["auth"])
    def get(self, request: Request) -> Response:
        """The user or API token that sends the request, and what it may do. It needs no permission."""
        actor = request_actor(request)
        answer = {
            "kind": actor.kind,
            "id": actor.id,
            "name": actor.name,
            "user_id": actor.person_id,
            "permissions": sorted(actor.permissions),
        }
        return Response(CallerSerializer(answer).data)
