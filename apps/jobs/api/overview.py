"""``GET /overview``: the state of everything at a glance, for frontends and status displays."""

from collections import Counter

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.agents.selectors import fleet_counts
from apps.audit.selectors.overview import events_today
from apps.jobs.selectors import job_overview
from apps.jobs.selectors.deployments import deployment_last
from apps.jobs.serializers.overview import OverviewSerializer
from apps.secrets.selectors.rotations import rotation_next

_STATUSES = ("healthy", "unhealthy", "dead", "draining")


class OverviewView(APIView):
    @extend_schema(responses=OverviewSerializer, operation_id="overview", tags=["control plane"])
    def get(self, request: Request) -> Response:
        """What the first page of the dashboard shows. Needs the permissions to read jobs and agents."""
        actor = request_actor(request)
        permission_require(actor, Permission.JOBS_READ)
        permission_require(actor, Permission.AGENTS_READ)
        jobs = job_overview(days=1)
        fleet = Counter[str]()
        for statuses in fleet_counts().values():
            fleet.update(statuses)
        del fleet["retired"]
        overview = {
            "agents": {"total": fleet.total(), **{status: fleet[status] for status in _STATUSES}},
            "jobs": jobs,
            "today": jobs,
            "last_deployment": deployment_last(),
            "next_rotation": rotation_next() if Permission.SECRETS_READ in actor.permissions else None,
            "audit_today": events_today() if Permission.AUDIT_READ in actor.permissions else None,
        }
        return Response(OverviewSerializer(overview).data, headers={"Cache-Control": "no-store"})
