"""The events of gateways for requests: HTTP APIs (payload 2.0), and REST APIs (1.0)."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

SOURCE = "203.0.113.7"


def http_api_event(
    method: str,
    path: str,
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    cookies: list[str] | None = None,
    body: bytes = b"",
    stage: str = "$default",
) -> dict[str, Any]:
    """`path` and `query` as the client wrote them; the stage comes in front, as in the gateway's own address."""
    prefix = "" if stage == "$default" else f"/{stage}"
    # The gateway decodes the path, except %25, so that the path cannot be decoded twice.
    raw_path = prefix + "%25".join(unquote(part) for part in path.split("%25"))
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path,
        "rawQueryString": query,
        "headers": {"host": "testserver", "x-forwarded-for": "198.51.100.1, " + SOURCE, **(headers or {})},
        "requestContext": {
            "apiId": "0123456789",
            "stage": stage,
            "http": {"method": method, "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": SOURCE},
        },
        "isBase64Encoded": bool(body),
    }
    if cookies:
        event["cookies"] = cookies
    if body:
        event["body"] = base64.b64encode(body).decode()
    return event


def rest_api_event(
    method: str, path: str, *, query: str = "", headers: Mapping[str, str] | None = None, body: bytes = b"", stage: str
) -> dict[str, Any]:
    """The same for a REST API: the path comes without the stage, and the query decoded."""
    all_headers = {"Host": "0123456789.execute-api.eu-central-1.amazonaws.com", **(headers or {})}
    values = parse_qs(query, keep_blank_values=True)
    return {
        "version": "1.0",
        "resource": "/{proxy+}",
        "httpMethod": method,
        "path": unquote(path),
        "headers": all_headers,
        "multiValueHeaders": {name: [value] for name, value in all_headers.items()},
        "queryStringParameters": {name: found[-1] for name, found in values.items()} or None,
        "multiValueQueryStringParameters": values or None,
        "requestContext": {"stage": stage, "path": f"/{stage}{path}", "identity": {"sourceIp": SOURCE}},
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def answer_body(answer: Mapping[str, Any]) -> bytes:
    """The bytes that the gateway sends to the client."""
    body: str = answer["body"] or ""
    return base64.b64decode(body) if answer["isBase64Encoded"] else body.encode()
