"""``/agents``: enrolment of machines, and the fleet for people's programs."""

import base64
import re
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.accounts.services import enrolment_failure_count
from apps.agents.selectors import agent_get, agent_list, heartbeats_get
from apps.agents.serializers.agents import (
    AgentListQuerySerializer,
    AgentPageSerializer,
    AgentSerializer,
    CredentialsSerializer,
    EnrolmentSerializer,
    agent_json,
    effective_status,
)
from apps.agents.services import agent_drain, agent_enrol, agent_resume, enrolment_token_require
from controlplane.http.json_body import json_object
from controlplane.http.openapi import problems
from controlplane.http.requests import client_address, query_validated
from controlplane.lib.errors import ApplicationError, InvalidInput, NotAuthenticated

# Long enough to be random, since this and the token are enough to get the same key again.
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._:-]{16,128}")


class EnrolView(APIView):
    """Needs no signature and no session, only an enrolment token."""

    # The agent program may be newer than the control plane, and send more.
    ignores_unknown_members = True
    authentication_classes = ()
    permission_classes = ()

    def handle_exception(self, exc: Exception) -> Response:
        """Count a refused token against the client; over its limit, the answer is 429 instead."""
        if isinstance(exc, NotAuthenticated):
            try:
                enrolment_failure_count(address=client_address(self.request))
            except ApplicationError as error:
                exc = error
        return super().handle_exception(exc)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                {"type": "string", "pattern": f"^{_IDEMPOTENCY_KEY.pattern}$"},
                OpenApiParameter.HEADER,
                description="16 to 128 random characters. The same ones again give the same answer again, for 24 hours "
                "or until the agent has used its key.",
            )
        ],
        request=EnrolmentSerializer,
        responses={201: CredentialsSerializer, **problems(401, 403, 409, 429)},
        operation_id="agents_enrol",
        tags=["agents"],
    )
    def post(self, request: Request) -> Response:
        """Enrol a machine that has an enrolment token: it becomes an agent."""
        body = json_object(request.data)
        # The token comes before everything else, so that a stranger costs one read and one write at most.
        enrolment_token_require(_token(body))
        idempotency_key = request.headers.get("Idempotency-Key")
        if idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
            raise InvalidInput.field(
                "Idempotency-Key", "must have 16 to 128 of the characters A-Z, a-z, 0-9 and . _ : -"
            )
        serializer = EnrolmentSerializer(data=body)
        serializer.is_valid(raise_exception=True)
        credentials = agent_enrol(**serializer.validated_data, idempotency_key=idempotency_key)
        return Response(
            {
                "agent_id": credentials.agent_id,
                "key_id": credentials.key_id,
                "workload_identity_secret": base64.b64encode(credentials.secret).decode(),
            },
            status=201,
            headers={"Cache-Control": "no-store"},
        )


def _token(body: dict[str, Any]) -> str:
    """The enrolment token in the body. Raises InvalidInput without one."""
    token = body.get("token")
    if not isinstance(token, str):
        raise InvalidInput.field("token", "must be a text" if "token" in body else "must be given")
    return token


class AgentsView(APIView):
    @extend_schema(
        parameters=[AgentListQuerySerializer],
        responses=AgentPageSerializer,
        operation_id="agents_list",
        tags=["agents"],
    )
    def get(self, request: Request) -> Response:
        """Agents by region and then by age, with their status at the last sweep."""
        permission_require(request_actor(request), Permission.AGENTS_READ)
        page = agent_list(**query_validated(request.query_params, AgentListQuerySerializer))
        heartbeats = heartbeats_get(agent.agent_id for agent in page.agents)
        return Response(
            {
                "agents": [agent_json(agent, heartbeats.get(agent.agent_id)) for agent in page.agents],
                "total": page.total,
                "next_cursor": page.next_cursor,
            }
        )


class AgentView(APIView):
    @extend_schema(responses=AgentSerializer, operation_id="agents_get", tags=["agents"])
    def get(self, request: Request, agent_id: str) -> Response:
        """One agent, with its status by its last heartbeat."""
        permission_require(request_actor(request), Permission.AGENTS_READ)
        return _detail(agent_id)


class AgentDrainView(APIView):
    @extend_schema(
        request=None, responses={200: AgentSerializer, **problems(409)}, operation_id="agents_drain", tags=["agents"]
    )
    def post(self, request: Request, agent_id: str) -> Response:
        """Give the agent no new jobs; those that it runs go on."""
        agent_drain(agent_id=agent_id, actor=request_actor(request))
        return _detail(agent_id)


class AgentResumeView(APIView):
    @extend_schema(
        request=None, responses={200: AgentSerializer, **problems(409)}, operation_id="agents_resume", tags=["agents"]
    )
    def post(self, request: Request, agent_id: str) -> Response:
        """Give a draining or unhealthy agent new jobs again."""
        agent_resume(agent_id=agent_id, actor=request_actor(request))
        return _detail(agent_id)


def _detail(agent_id: str) -> Response:
    agent = agent_get(agent_id)
    heartbeat = heartbeats_get([agent_id]).get(agent_id)
    return Response(agent_json(agent, heartbeat) | {"status": effective_status(agent, heartbeat)})
