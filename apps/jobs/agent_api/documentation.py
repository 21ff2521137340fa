"""The description of the agents' endpoints for the API document."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from apps.agents.serializers.heartbeats import HEARTBEAT as HEARTBEAT_FIELDS
from apps.jobs.reports.results import ReportKind
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
    "responses": {200: protocol.DEFINITION_ANSWER, **problems(409, 422)},
    "security": AGENT,
}

UPLOAD: Json = {
    "operation_id": "attempt_upload",
    "request": protocol.UPLOAD,
    "responses": {200: protocol.UPLOAD_ANSWER, **problems(409, 422)},
    "security": AGENT,
}

LOG: Json = {
    "operation_id": "attempt_log",
    "parameters": [
        OpenApiParameter(
            "Log-Times",
            OpenApiTypes.STR,
            OpenApiParameter.HEADER,
            description="When the bytes were printed: how many milliseconds ago the first one was, and then places "
            "`bytes:milliseconds`, each so far after the one before.",
            pattern=f"^{protocol.LOG_TIMES}$",
            examples=[OpenApiExample("times", "1250 283:10 400:57")],
        )
    ],
    "request": {"application/octet-stream": OpenApiTypes.BINARY},
    "responses": {200: protocol.LOG_ANSWER, **problems(409)},
    "security": AGENT,
}

REPORT: Json = {
    "operation_id": "attempt_report",
    "parameters": [
        OpenApiParameter(
            "Report-Kind",
            OpenApiTypes.STR,
            OpenApiParameter.HEADER,
            required=True,
            enum=[kind.value for kind in ReportKind],
            description="JUnit XML with test results, or coverage in Cobertura's format.",
        ),
        OpenApiParameter(
            "Report-File",
            OpenApiTypes.STR,
            OpenApiParameter.HEADER,
            required=True,
            description="The report's path in the workspace, in UTF-8, percent-encoded.",
            pattern=f"^{protocol.REPORT_FILE}$",
            examples=[OpenApiExample("file", "target/surefire-reports/TEST-app.xml")],
        ),
        OpenApiParameter(
            "Report-Commit",
            OpenApiTypes.STR,
            OpenApiParameter.HEADER,
            description="The commit that was checked out. Results of one commit are compared to find flaky tests.",
            pattern=f"^{protocol.REPORT_COMMIT}$",
        ),
    ],
    "request": {"application/octet-stream": OpenApiTypes.BINARY},
    "responses": {200: protocol.REPORT_ANSWER, **problems(409, 422)},
    "security": AGENT,
}

FINISH: Json = {
    "operation_id": "attempt_finish",
    "request": protocol.FINISH,
    "responses": {200: protocol.FINISH_ANSWER, **problems(409)},
    "security": AGENT,
}
