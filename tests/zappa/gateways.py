"""The four ways in which a request can reach the application, each as a function from a request to its response."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import requests

from tests.zappa.events import answer_body, http_api_event, rest_api_event


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


# method, path and query as the client writes them, headers, body, stage of the gateway
Gateway = Callable[[str, str, str, Mapping[str, str], bytes, str], Answer]


def development_server(server: str) -> Gateway:
    """The server of the tests, which has no stages."""

    def ask(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, stage: str) -> Answer:
        session = requests.Session()
        session.trust_env = False
        request = requests.Request(method, server, headers=dict(headers), data=body).prepare()
        # Otherwise the library would normalise the path.
        request.url = f"{server}{path}" + (f"?{query}" if query else "")
        found = session.send(request, timeout=30)
        return Answer(found.status_code, found.content)

    return ask


def our_handler(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, stage: str) -> Answer:
    """An HTTP API in front of our entry point."""
    from controlplane.lambda_handler import handler

    event = http_api_event(method, path, query=query, headers=_lower(headers), body=body, stage=stage or "$default")
    answer = handler(event, None)
    return Answer(answer["statusCode"], answer_body(answer))


def zappa_http_api(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, stage: str) -> Answer:
    """An HTTP API in front of Zappa's own handler."""
    event = http_api_event(method, path, query=query, headers=_lower(headers), body=body, stage=stage or "$default")
    answer = zappa_handler()(event, None)
    return Answer(answer["statusCode"], answer_body(answer))


def zappa_rest_api(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, stage: str) -> Answer:
    """A REST API, which always has a stage, in front of Zappa's own handler; without one, behind a custom domain."""
    headers = dict(headers) if stage else {"Host": "testserver", **headers}
    event = rest_api_event(method, path, query=query, headers=headers, body=body, stage=stage or "test")
    answer = zappa_handler()(event, None)
    return Answer(answer["statusCode"], answer_body({"body": "", "isBase64Encoded": False, **answer}))


def zappa_handler() -> Callable[..., dict]:  # type: ignore[type-arg]
    """Zappa's handler with the settings that it would write into the package."""
    if "zappa_settings" not in sys.modules:
        settings = ModuleType("zappa_settings")
        vars(settings).update(
            APP_MODULE="controlplane.wsgi",
            APP_FUNCTION="application",
            APP_TYPE=None,
            DJANGO_SETTINGS=os.environ["DJANGO_SETTINGS_MODULE"],
            EXCEPTION_HANDLER=None,
            DEBUG=False,
            LOG_LEVEL="WARNING",
            BINARY_SUPPORT=True,
            CONTEXT_HEADER_MAPPINGS={},
            DOMAIN=None,
            BASE_PATH=None,
            ENVIRONMENT_VARIABLES={},
            API_STAGE="test",
            PROJECT_NAME="hybrid-ci-cd",
            SETTINGS_FILE=None,
            AWS_EVENT_MAPPING={},
            AWS_BOT_EVENT_MAPPING={},
            COGNITO_TRIGGER_MAPPING={},
            ASYNC_RESPONSE_TABLE="",
            ADDITIONAL_TEXT_MIMETYPES=[],
        )
        sys.modules["zappa_settings"] = settings
    from zappa.handler import lambda_handler

    logging.getLogger("zappa").setLevel(logging.WARNING)
    return lambda_handler


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """HTTP APIs send the names of headers in lower case."""
    return {name.lower(): value for name, value in headers.items()}
