"""Prepares the OpenAPI document for the page ``/docs``, which people read.

`/docs` is rendered from our own OpenAPI document. Swagger UI (1.8 MB) and Redoc (1.1 MB) need
`style-src 'unsafe-inline'`; this page needs no script. It is made once in a process, at the first request.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import groupby
from typing import Any

from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

from controlplane.http.api_document import api_document
from controlplane.http.openapi import PROBLEM_CONTENT_TYPE, Json
from controlplane.lib.error_codes import ErrorCode

# People's programs use these tags most, so they come first. The others follow by name.
_TAGS = ("jobs", "pipelines", "agents", "tokens", "auth")
# How deep a schema is shown that contains itself.
_DEEPEST = 4
# From here on, a bound is only the largest number of JSON, and the page does not show it.
_NO_LIMIT = 2**53
# How the page names each security scheme.
_ACCESS = {"agentSignature": "signed by an agent", "webhookSignature": "signed by a provider", "apiToken": "signed in"}
_FORMATS = {"date-time": "RFC 3339 time", "binary": "bytes", "uri": "URL"}
_EXAMPLES = {"date-time": "2027-01-31T12:00:00Z", "uri": "https://example.com", "binary": "…"}


@dataclass(frozen=True)
class Field:
    """A parameter, or a member of a JSON object. `depth` is its depth in the object."""

    name: str
    kind: str
    required: bool
    text: SafeString
    depth: int = 0


@dataclass(frozen=True)
class Content:
    """The body of a request or response: its media type, its members, and an example if it is JSON."""

    media_type: str
    fields: list[Field]
    example: str | None
    text: SafeString


@dataclass(frozen=True)
class Answer:
    """A successful response."""

    status: int
    title: str
    text: SafeString
    content: Content | None


@dataclass(frozen=True)
class Operation:
    """A method of a path. `problems` are the statuses of its errors."""

    name: str
    tag: str
    method: str
    path: str
    text: SafeString
    access: str
    parameters: list[tuple[str, list[Field]]]
    body: Content | None
    answers: list[Answer]
    problems: list[int]
    command: str | None


@dataclass(frozen=True)
class Documentation:
    """The whole document: operations by tag, the members of every problem, and the error codes."""

    tags: list[tuple[str, list[Operation]]]
    problem: list[Field]
    error_codes: list[ErrorCode]


@cache
def documentation() -> Documentation:
    """The API of this release. Made once in a process, because it does not change."""
    document = api_document()
    # The page has a table of the codes.
    code = {"type": "string", "description": "Stable, for programs: one of the error codes."}
    reader = _Reader({**document["components"]["schemas"], "ErrorCode": code})
    operations = [
        reader.operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(
        key=lambda operation: (_TAGS.index(operation.tag) if operation.tag in _TAGS else len(_TAGS), operation.tag)
    )
    return Documentation(
        tags=[(tag, list(group)) for tag, group in groupby(operations, key=lambda operation: operation.tag)],
        problem=list(reader.fields({"$ref": "#/components/schemas/Problem"})),
        error_codes=sorted(ErrorCode),
    )


class _Reader:
    """Reads operations and follows references to `schemas`."""

    def __init__(self, schemas: Json) -> None:
        self._schemas = schemas

    def operation(self, method: str, path: str, operation: Json) -> Operation:
        request = operation.get("requestBody", {})
        body = self._content(request.get("content", {}), request.get("description", ""))
        named = [name for requirement in operation.get("security", []) for name in requirement]
        access = next((words for name, words in _ACCESS.items() if name in named), "open to everyone")
        statuses = {int(status) for status in operation["responses"] if status != "default"}
        return Operation(
            name=operation["operationId"],
            tag=operation["tags"][0],
            method=method.upper(),
            path=path,
            text=_prose(operation["description"]),
            access=access,
            parameters=list(self._parameters(operation.get("parameters", []))),
            body=body,
            answers=[
                self._answer(status, operation["responses"][str(status)]) for status in sorted(statuses) if status < 400
            ],
            problems=sorted(status for status in statuses if status >= 400),
            command=None if access == "signed by an agent" else _command(method, path, body, signed=bool(named)),
        )

    def _parameters(self, parameters: list[Json]) -> Iterator[tuple[str, list[Field]]]:
        for place in ("path", "query", "header"):
            fields = [self._parameter(parameter) for parameter in parameters if parameter["in"] == place]
            if fields:
                yield f"In the {place}", fields

    def _parameter(self, parameter: Json) -> Field:
        schema = self._resolved(parameter["schema"])
        return Field(
            name=parameter["name"],
            kind=self._kind(schema),
            required=parameter.get("required", False),
            text=_prose(parameter.get("description") or schema.get("description", "")),
        )

    def _answer(self, status: int, response: Json) -> Answer:
        content = self._content(response.get("content", {}))
        return Answer(status, HTTPStatus(status).phrase, _prose(response.get("description", "")), content)

    def _content(self, content: Json, text: str = "") -> Content | None:
        for media_type, described in content.items():
            if media_type != PROBLEM_CONTENT_TYPE:
                schema = described.get("schema", {})
                example = json.dumps(self._example(schema), indent=2, ensure_ascii=False)
                return Content(
                    media_type, list(self.fields(schema)), example if "json" in media_type else None, _prose(text)
                )
        return None

    def fields(self, schema: Json, depth: int = 0) -> Iterator[Field]:
        """The members of an object, each followed by its own members."""
        schema = self._resolved(schema)
        for name, described in schema.get("properties", {}).items() if depth < _DEEPEST else ():
            member = self._resolved(described)
            yield Field(
                name=name,
                kind=self._kind(member),
                required=name in schema.get("required", ()),
                text=_prose(described.get("description") or member.get("description", "")),
                depth=depth,
            )
            yield from self.fields(member.get("items", member), depth + 1)

    def _kind(self, schema: Json) -> str:
        kinds = schema.get("type", "any value")
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        words = [self._kind_word(kind, schema) for kind in kinds if kind != "null"]
        if "enum" in schema:
            words = [" | ".join(str(value) for value in schema["enum"] if value is not None)]
        return " or ".join([*words, *(["null"] if "null" in kinds else [])]) + _limits(schema)

    def _kind_word(self, kind: str, schema: Json) -> str:
        if kind == "array":
            return f"list of {self._kind(self._resolved(schema.get('items', {})))}"
        return _FORMATS.get(schema.get("format", ""), kind)

    def _resolved(self, schema: Json) -> Json:
        """The schema that references lead to, and the schema of “this or null”."""
        if "$ref" in schema:
            return self._resolved(self._schemas[schema["$ref"].rpartition("/")[2]])
        for combined in ("allOf", "oneOf", "anyOf"):
            if combined in schema:
                parts = [self._resolved(part) for part in schema[combined]]
                real = next((part for part in parts if part.get("type") != "null"), {})
                null = any(part.get("type") == "null" for part in parts)
                kinds = real.get("type", "object")
                return {**real, "type": [kinds, "null"]} if null and isinstance(kinds, str) else real
        return schema

    def _example(self, schema: Json, name: str = "", depth: int = 0) -> Any:
        schema = self._resolved(schema)
        for given in (schema.get("examples"), schema.get("enum"), [schema["default"]] if "default" in schema else None):
            if given:
                return given[0]
        kinds = schema.get("type", "string")
        kind = kinds if isinstance(kinds, str) else kinds[0]
        if kind == "object":
            members = schema.get("properties", {}) if depth < _DEEPEST else {}
            return {member: self._example(inner, member, depth + 1) for member, inner in members.items()}
        if kind == "array":
            return [self._example(schema.get("items", {}), name.removesuffix("s"), depth + 1)]
        if kind in ("integer", "number"):
            return schema.get("minimum", 0)
        if kind == "boolean":
            return False
        return _EXAMPLES.get(schema.get("format", ""), _example_text(name))


def _example_text(name: str) -> str:
    return "01kb2m7v3c0000000000000000" if name.endswith("_id") else name or "…"


def _limits(schema: Json) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    limits = []
    if most is not None and most < _NO_LIMIT:
        limits.append(f"{least} to {most}" if least is not None else f"at most {most}")
    elif least is not None:
        limits.append(f"at least {least}")
    if schema.get("default") is not None:
        limits.append(f"default {schema['default']}")
    if schema.get("maxLength"):
        limits.append(f"up to {schema['maxLength']} characters")
    return f", {', '.join(limits)}" if limits else ""


def _command(method: str, path: str, body: Content | None, *, signed: bool) -> str:
    """The operation as a shell command that uses the variables URL and TOKEN."""
    address = re.sub(r"{(\w+)}", lambda found: "$" + found[1].upper(), path)
    lines = [f'curl {"" if method == "get" else f"-X {method.upper()} "}"$URL{address}"']
    if signed:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if body is not None and body.example is not None:
        lines.append('-H "Content-Type: application/json"')
        compact = json.dumps(json.loads(body.example), ensure_ascii=False).replace("'", r"'\''")
        lines.append(f"-d '{compact}'")
    return " \\\n  ".join(lines)


def _prose(text: str) -> SafeString:
    """A description as HTML. `Backquotes` mark code."""
    parts = text.split("`")
    marked = (
        f"<code>{conditional_escape(part)}</code>" if odd else str(conditional_escape(part))
        for part, odd in zip(parts, (index % 2 == 1 for index in range(len(parts))), strict=True)
    )
    return mark_safe("".join(marked))  # noqa: S308 — every part is escaped
