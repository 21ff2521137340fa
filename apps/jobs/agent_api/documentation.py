"""The description of the agents' endpoints for the API document."""

from drf_spectacular.types import OpenApiTypes

from apps.agents.serializers.heartbeats import HEARTBEAT as HEARTBEAT_FIELDS
from apps.jobs.serializers import agent_protocol as protocol
from controlplane.http.openapi import AGENT, Json, problems

HEARTBEAT: Json = {
    "operation_id": "agent_heartbeat",
    "request": HEARTBEAT_FIELDS,
    "responses": {200: protocol.HEARTBEAT_ANSWER, **problems(409, 429)},
    "security": AGENT,
}

START: Json = {
    "operation_id": "attempt_start",
    "request": protocol.START,
    "responses": {200: protocol.START_ANSWER, **problems(409)},
    "security": AGENT,
}

DEFINITION: Json = {
    "operation_id": "attempt_definition",
    "request": protocol.DEFINITION_REPORT,
    "responses": {200: protocol.WORK, **problems(409, 422)},
    "security": AGENT,
}

LOG: Json = {
    "operation_id": "attempt_log",
    "request": {"application/octet-stream": OpenApiTypes.BINARY},
    "responses": {200: protocol.LOG_ANSWER, **problems(409)},
    "security": AGENT,
}

FINISH: Json = {
    "operation_id": "attempt_finish",
    "request": protocol.FINISH,
    "responses": {200: protocol.FINISH_ANSWER, **problems(409)},
    "security": AGENT,
}
