"""The smoke test of a deployment: it answers, it is the right version, and it reaches its database."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import function_name

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Door:
    """A way to send requests to a stage: `ask` takes a path and a media type, and returns status and body."""

    name: str
    ask: Callable[[str, str], tuple[int, bytes]]


def address_door(address: str) -> Door:
    """Requests over the network, as every client sends them."""

    def ask(path: str, accept: str) -> tuple[int, bytes]:
        request = Request(address + path, headers={"Accept": accept})  # noqa: S310
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except (URLError, TimeoutError) as error:
            raise InfrastructureError(f"{address}{path} cannot be reached: {error}") from error

    return Door(address, ask)


def version_door(stage: str, account: Account, version: str) -> Door:
    """Requests that invoke one version of the function directly, live or not, as the API would."""
    client = account.client("lambda")
    function = function_name(stage)
    with aws_errors():
        found = client.get_function_configuration(FunctionName=function, Qualifier=version)
    host = found.get("Environment", {}).get("Variables", {}).get("ALLOWED_HOSTS", "").split(",")[0]
    host = f"smoke{host}" if host.startswith(".") else host

    def ask(path: str, accept: str) -> tuple[int, bytes]:
        with aws_errors():
            answer = client.invoke(
                FunctionName=function, Qualifier=version, Payload=json.dumps(_event(host, path, accept)).encode()
            )
            body = answer["Payload"].read()
        if "FunctionError" in answer:
            raise InfrastructureError(f"Version {version} fails at {path}: {body[:500].decode(errors='replace')}")
        return _answer(json.loads(body))

    return Door(f"Version {version}", ask)


def _event(host: str, path: str, accept: str) -> dict[str, Any]:
    """The event of an HTTP API (payload format 2.0) for a GET behind a custom domain."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": host, "accept": accept, "x-forwarded-proto": "https"},
        "requestContext": {
            "stage": "$default",
            "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
        },
        "isBase64Encoded": False,
    }


def _answer(result: Mapping[str, Any]) -> tuple[int, bytes]:
    body: str = result.get("body") or ""
    return result["statusCode"], base64.b64decode(body) if result.get("isBase64Encoded") else body.encode()


def smoke_test(door: Door, *, stage: str, version: str | None) -> None:
    """Request what every deployment must answer. `version` is the product's, None for an older version.

    Raises InfrastructureError for the first wrong response.
    """
    known = {"version": version} if version is not None else {}
    _answer_require(door, "/health", 200, {"status": "healthy", **known})
    _answer_require(door, "/info", 200, {"environment": stage, **known})
    _answer_require(door, "/signin", 200, None)
    # This needs the database, and the permission to read it.
    _answer_require(door, "/health/ready", 200, {"status": "ready", **known})
    _answer_require(door, "/jobs", 401, {"code": "not_authenticated"})


def _answer_require(door: Door, path: str, status: int, members: Mapping[str, str] | None) -> None:
    found, body = door.ask(path, "application/json" if members else "text/html")
    if found != status:
        raise InfrastructureError(f"{door.name} answers {path} with {found}, not {status}: {body[:300]!r}")
    found_members = json.loads(body) if members else {}
    for name, value in (members or {}).items():
        if found_members.get(name) != value:
            raise InfrastructureError(f"{door.name} has at {path} {name} {found_members.get(name)!r}, not {value!r}.")
