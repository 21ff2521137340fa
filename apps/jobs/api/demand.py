"""``GET /agents/demand``: what waits for agents, for programs that start and stop machines.

It is here and not with the other paths of agents, since agents know no jobs.
"""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors.demand import demand_get
from apps.jobs.serializers.demand import DemandQuerySerializer, DemandSerializer, demand_json
from controlplane.http.requests import query_validated


class AgentDemandView(APIView):
    @extend_schema(
        parameters=[DemandQuerySerializer],
        responses=DemandSerializer,
        operation_id="agents_demand",
        tags=["agents"],
    )
    def get(self, request: Request) -> Response:
        """How many jobs wait with which labels, and how many slots the healthy agents have for them, by region, too.

        For autoscalers: give the labels of the agents that you scale, and keep `slots_wanted` slots. The answer may lag
        by moments.
        """
        permission_require(request_actor(request), Permission.AGENTS_READ)
        query = query_validated(request.query_params, DemandQuerySerializer)
        return Response(demand_json(demand_get(query.get("labels"))), headers={"Cache-Control": "no-store"})
