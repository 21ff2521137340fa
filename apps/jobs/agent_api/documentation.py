"""What the API document says of the endpoints for attempts and heartbeats."""

from drf_spectacular.types import OpenApiTypes

from apps.jobs.serializers.agent_protocol import (
    AttemptSerializer,
    DefinitionReportSerializer,
    FinishAnswerSerializer,
    FinishSerializer,
    HeartbeatAnswerSerializer,
    HeartbeatSerializer,
    LogAnswerSerializer,
    StartAnswerSerializer,
    WorkSerializer,
)
from controlplane.http.openapi import AGENT, Json, problems

HEARTBEAT: Json = {
    "operation_id": "agent_heartbeat",
    "request": HeartbeatSerializer,
    "responses": {200: HeartbeatAnswerSerializer, **problems(409, 429)},
    "security": AGENT,
}

START: Json = {
    "operation_id": "attempt_start",
    "request": AttemptSerializer,
    "responses": {200: StartAnswerSerializer, **problems(409)},
    "security": AGENT,
}

DEFINITION: Json = {
    "operation_id": "attempt_definition",
    "request": DefinitionReportSerializer,
    "responses": {200: WorkSerializer, **problems(409, 422)},
    "security": AGENT,
}

LOG: Json = {
    "operation_id": "attempt_log",
    "request": {"application/octet-stream": OpenApiTypes.BINARY},
    "responses": {200: LogAnswerSerializer, **problems(409)},
    "security": AGENT,
}

FINISH: Json = {
    "operation_id": "attempt_finish",
    "request": FinishSerializer,
    "responses": {200: FinishAnswerSerializer, **problems(409)},
    "security": AGENT,
}
