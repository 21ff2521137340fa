"""``GET /status``: how the parts of the control plane are, for status displays."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors.status import overall, status_components
from apps.jobs.serializers.status import StatusSerializer


class StatusView(APIView):
    @extend_schema(responses=StatusSerializer, operation_id="status", tags=["control plane"])
    def get(self, request: Request) -> Response:
        """How the tasks of each minute, agents, queue, webhooks, messages, rotations and audit trail are.

        Needs the permissions to read jobs and agents. A probe of the process and the database is /health/ready.
        """
        actor = request_actor(request)
        permission_require(actor, Permission.JOBS_READ)
        permission_require(actor, Permission.AGENTS_READ)
        components = status_components()
        found = {"health": overall(components), "components": components}
        return Response(StatusSerializer(found).data, headers={"Cache-Control": "no-store"})
