"""The description of the agents' plain views for the API document."""

from drf_spectacular.types import OpenApiTypes

from apps.agents.serializers.configuration import AGENT_CONFIG
from controlplane.http.openapi import AGENT, Json

CONFIG: Json = {
    "operation_id": "agent_config",
    "responses": {200: AGENT_CONFIG},
    "security": AGENT,
    "tags": ["agents"],
}

PROGRAM: Json = {
    "operation_id": "agent_pyz",
    "responses": {(200, "application/zip"): OpenApiTypes.BINARY},
    "tags": ["agents"],
}
