"""What the API document says of the plain views of agents."""

from drf_spectacular.types import OpenApiTypes

from apps.agents.serializers.agents import AgentConfigSerializer
from controlplane.http.openapi import AGENT, Json

CONFIG: Json = {
    "operation_id": "agent_config",
    "responses": AgentConfigSerializer,
    "security": AGENT,
    "tags": ["agents"],
}

PROGRAM: Json = {
    "operation_id": "agent_pyz",
    "responses": {(200, "application/zip"): OpenApiTypes.BINARY},
    "tags": ["agents"],
}
