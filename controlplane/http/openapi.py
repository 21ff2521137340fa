"""The API document at ``/schema``: the parts that all operations share, and how an app describes its own operations.

A DRF view is described by drf-spectacular's ``@extend_schema``, a plain Django view by `controlplane.http.documented`:

    @documented("post", "apps.jobs.agent_api.documentation.HEARTBEAT")
    def heartbeat(request, agent_id): …

    HEARTBEAT = {"request": HEARTBEAT_FIELDS, "responses": HEARTBEAT_ANSWER, "security": AGENT}

The path names the arguments of ``extend_schema``. It changes nothing about the view at run time, and is imported only
when the document is made. A request or an answer is a serializer or a table of fields (`controlplane.http.fields`). The
view's docstring is the description, if there is no other.

Apps need not describe problems: every operation gets those that its security, its parameters and its body make
possible, and ``default`` for the others. To describe a particular problem, spread `problems` into the responses:

    @extend_schema(responses={200: JobSerializer, **problems(409)})
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction, OpenApiResponse

from controlplane.http.body_limits import view_body_limit
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import MAX_ERRORS

Json = dict[str, Any]
Security = Sequence[Mapping[str, list[str]]]

# The security of an operation. A public operation needs no sign-in.
PUBLIC: Security = ()
AGENT: Security = ({"agentSignature": []},)
WEBHOOK: Security = ({"webhookSignature": []},)

PROBLEM_CONTENT_TYPE = "application/problem+json"

_PROBLEM: Json = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Always about:blank; `code` identifies the problem."},
        "title": {"type": "string", "description": "The name of the HTTP status."},
        "status": {"type": "integer"},
        "code": {"$ref": "#/components/schemas/ErrorCode"},
        "detail": {"type": "string", "description": "One sentence for people."},
        "request_id": {"type": "string", "description": "For server errors (5xx): finds the request in the log."},
        "errors": {
            "type": "array",
            "description": "The invalid fields, the first of them if there are many.",
            "maxItems": MAX_ERRORS,
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string", "examples": ["steps[1].timeout"]},
                    "line": {"type": "integer", "description": "In a pipeline definition, from 1."},
                    "column": {"type": "integer", "description": "In that line, from 1."},
                    "message": {"type": "string"},
                },
            },
        },
    },
}

_ERROR_CODE: Json = {
    "type": "string",
    "description": "Stable, for programs.\n\n" + "\n".join(f"- `{code}`: {code.meaning}" for code in ErrorCode),
    "enum": [code.value for code in ErrorCode],
}

_AGENT_SIGNATURE: Json = {
    "type": "apiKey",
    "in": "header",
    "name": "Signature",
    "description": (
        "RFC 9421 with hmac-sha256 under the label sig1: `Signature-Input` covers @method, @path and content-digest "
        "(RFC 9530, of the body as sent) with created, keyid and nonce. The key comes from the enrolment."
    ),
}
_WEBHOOK_SIGNATURE: Json = {
    "type": "apiKey",
    "in": "header",
    "name": "X-Hub-Signature-256",
    "description": (
        "What the provider signs the body with: X-Hub-Signature-256 of GitHub, X-Gitea-Signature, X-Gitlab-Token, or "
        "webhook-signature with webhook-id and webhook-timestamp (Standard Webhooks). The secret is the connection's."
    ),
}


def problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    """Responses for ``extend_schema``: the operation may answer with these problems."""
    return {
        (status, PROBLEM_CONTENT_TYPE): OpenApiResponse(
            {"$ref": "#/components/schemas/Problem"}, description=HTTPStatus(status).phrase
        )
        for status in statuses
    }


class Schema(AutoSchema):
    """Describes an operation as drf-spectacular does, and adds its problems.

    Bodies have only the described members (`controlplane.http.requests.body_validated` refuses others), unless the view
    has the attribute ``ignores_unknown_members``.
    """

    def _map_basic_serializer(self, serializer: Any, direction: str) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if direction == "request" and schema and not getattr(self.view, "ignores_unknown_members", False):
            schema["additionalProperties"] = False
        return schema

    def get_auth(self) -> list[Any]:
        security = getattr(self.view, "security", None)
        return super().get_auth() if security is None else list(security)

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            possible = {str(status.value): _problem_response(status) for status in _possible_problems(operation)}
            responses = {**possible, **operation["responses"], "default": _problem_response(None)}
            operation["responses"] = dict(sorted(responses.items()))
            if "requestBody" in operation:
                operation["requestBody"]["description"] = f"At most {view_body_limit(self.view):,} bytes."
        return operation


def _possible_problems(operation: Json) -> set[HTTPStatus]:
    """The errors that any operation of this form can answer with."""
    parameters = operation.get("parameters", [])
    statuses = set()
    if any(parameter["in"] != "path" for parameter in parameters):
        statuses.add(HTTPStatus.BAD_REQUEST)
    if any(parameter["in"] == "path" for parameter in parameters):
        statuses.add(HTTPStatus.NOT_FOUND)
    if "requestBody" in operation:
        statuses |= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    if operation.get("security"):
        statuses |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return statuses


def _problem_response(status: HTTPStatus | None) -> Json:
    return {
        "description": status.phrase if status else "Any other problem",
        "content": {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


class TableOfFields(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Makes a component of a table of fields, where ``extend_schema`` takes a serializer."""

    target_class = "controlplane.http.fields.Object"

    def get_name(self, auto_schema: AutoSchema, direction: Direction) -> str:  # noqa: ARG002
        return str(self.target.name)

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> Json:
        def reference(table: Any) -> Json:
            return dict(auto_schema.resolve_serializer(table, direction).ref)

        return dict(self.target.component(reference))


class MembersOfAnyName(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Says how many members an object may have."""

    target_class = "controlplane.http.drf_fields.DictField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Json:
        schema = auto_schema._map_serializer_field(  # type: ignore[no-untyped-call]
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "maxProperties": self.target.max_entries}


class ApiTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a program authenticates."""

    target_class = "apps.accounts.authentication.BearerAuthentication"
    name = "apiToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> Json:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "description": "An API token (hcp_…) or a session_id."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a browser authenticates."""

    target_class = "apps.accounts.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> Json:  # noqa: ARG002
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "The session cookie of a signed-in browser. Requests that change data need a CSRF token.",
        }


def common_parts_add(result: Json, **_: Any) -> Json:
    """drf-spectacular's last hook: adds the parts that operations refer to."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {}).update(Problem=_PROBLEM, ErrorCode=_ERROR_CODE)
    components.setdefault("securitySchemes", {})["agentSignature"] = _AGENT_SIGNATURE
    components["securitySchemes"]["webhookSignature"] = _WEBHOOK_SIGNATURE
    return result
