"""The Lambda entry point: how it handles a gateway's event, and what it imports for it."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError

from controlplane.http.requests import client_address
from controlplane.lib import clock
from tests.clients import Client
from tests.conftest import PASSWORD, person
from tests.zappa.events import SOURCE, answer_body, http_api_event

# Modules that neither /health nor agents nor the validation of a session need.
LATER = [
    "agent.pipeline.definition",
    "agent.repositories",
    "apps.agents.selectors.candidates",
    "apps.agents.selectors.capacity",
    "apps.agents.services.enrolment",
    "apps.agents.services.silence",
    "apps.jobs.reports",
    "apps.jobs.run_plan",
    "apps.jobs.selectors.log_lines",
    "apps.jobs.selectors.log_search",
    "apps.jobs.selectors.story",
    "apps.jobs.services.advance",
    "apps.jobs.services.artifact_zips",
    "apps.jobs.services.file_reports",
    "apps.jobs.services.log_archives",
    "apps.jobs.services.reconciliation",
    "apps.pipelines.selectors",
    "aws_lambda_powertools",
    "boto3",
    "cronsim",
    "defusedxml",
    "django.contrib.admin",
    "django.contrib.auth.forms",
    "django.contrib.auth.management",
    "django.contrib.auth.views",
    "django.contrib.messages.storage.fallback",
    "django.contrib.staticfiles.storage",
    "django.db.migrations",
    "django.test",
    "drf_spectacular.openapi",
    "drf_spectacular.utils",
    "jsonschema",
    "prometheus_client",
    "requests",
    "rest_framework.serializers",
    "rest_framework.views",
    "social_core",
    "social_django",
    "ulid",
    "werkzeug",
    "whitenoise",
    "yaml",
    "zappa",
]


def pair(cookie: str) -> str:
    """Name and value of a Set-Cookie header, as the client sends them back."""
    return cookie.split(";")[0].strip()


def handle(event: dict[str, Any]) -> dict[str, Any]:
    from controlplane.lambda_handler import handler

    answer: dict[str, Any] = handler(event, None)
    return answer


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The WSGI environment that the handler gives to Django; the application itself answers."""
    from controlplane import lambda_handler

    found: dict[str, Any] = {}
    real = lambda_handler.application

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        found.update(environ)
        return real(environ, start_response)

    monkeypatch.setattr(lambda_handler, "application", application)
    return found


def test_a_request_is_answered_as_over_http(server: str) -> None:
    over_http = Client(server).get("/health")
    answer = handle(http_api_event("GET", "/health"))
    assert (answer["statusCode"], answer_body(answer)) == (200, over_http.content)
    assert answer["headers"]["cache-control"] == over_http.headers["Cache-Control"]


def test_a_problem_equals_the_one_over_http(server: str) -> None:
    answer = handle(http_api_event("GET", "/jobs"))
    assert (answer["statusCode"], answer["headers"]["content-type"]) == (401, "application/problem+json")
    assert not answer["isBase64Encoded"]
    assert json.loads(answer["body"])["code"] == "not_authenticated"


def test_the_clients_address_comes_from_the_gateway_and_not_from_a_header(seen: dict[str, Any]) -> None:
    headers = {"x-forwarded-for": "192.0.2.66", "forwarded": "for=192.0.2.66", "x-real-ip": "192.0.2.66"}
    handle(http_api_event("GET", "/health", headers=headers))
    assert seen["REMOTE_ADDR"] == SOURCE
    request = type("Request", (), {"META": seen})()
    assert client_address(request) == SOURCE


@pytest.mark.parametrize("forged", ["x_forwarded_for", "content_digest", "signature_input", "authorization_"])
def test_a_header_with_an_underscore_cannot_replace_another(seen: dict[str, Any], forged: str) -> None:
    honest = forged.replace("_", "-")
    handle(http_api_event("GET", "/health", headers={honest: "honest", forged: "forged"}))
    assert seen["HTTP_" + honest.upper().replace("-", "_")] == "honest"
    assert "forged" not in seen.values()


def test_a_client_cannot_make_the_request_appear_without_tls(seen: dict[str, Any]) -> None:
    handle(http_api_event("GET", "/health", headers={"x-forwarded-proto": "http"}))
    assert seen["wsgi.url_scheme"] == "https"
    assert "HTTP_X_FORWARDED_PROTO" not in seen


def test_repeated_queries_and_headers_all_arrive(seen: dict[str, Any]) -> None:
    # A gateway joins repeated headers with commas.
    handle(http_api_event("GET", "/health", query="a=1&a=%2F&b=", headers={"accept": "text/html,text/plain"}))
    assert seen["QUERY_STRING"] == "a=1&a=%2F&b="
    assert seen["HTTP_ACCEPT"] == "text/html,text/plain"


@pytest.mark.parametrize(
    ("path", "bytes_of_path"),
    [("/caf%C3%A9", b"/caf\xc3\xa9"), ("/%E2%82%AC", b"/\xe2\x82\xac"), ("/a%2541", b"/a%41"), ("/a%20b", b"/a b")],
)
def test_a_path_arrives_as_over_http(seen: dict[str, Any], server: str, path: str, bytes_of_path: bytes) -> None:
    answer = handle(http_api_event("GET", path))
    assert seen["PATH_INFO"].encode("latin-1") == bytes_of_path
    assert answer["statusCode"] == Client(server).get(path).status_code == 404


@pytest.mark.parametrize(("stage", "location"), [("$default", "/dashboard/"), ("staging", "/staging/dashboard/")])
def test_links_lead_into_the_stage_of_the_request(stage: str, location: str) -> None:
    answer = handle(http_api_event("GET", "/", stage=stage))
    assert (answer["statusCode"], answer["headers"]["location"]) == (302, location)


@pytest.mark.parametrize(("stage", "first"), [("$default", "/dashboard/"), ("staging", "/staging/dashboard/")])
def test_a_person_signs_in_and_their_cookies_identify_them(server: str, stage: str, first: str) -> None:
    person(server, "viewer")
    form = handle(http_api_event("GET", "/signin", headers={"accept": "text/html"}, stage=stage))
    token = pair(form["cookies"][0])
    assert token.startswith("csrftoken=")
    page = answer_body(form).decode()
    secret = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    body = f"csrfmiddlewaretoken={secret}&email=viewer%40example.com&password={PASSWORD.replace(' ', '+')}".encode()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "origin": "https://testserver",
        "accept": "text/html",
    }
    signed_in = handle(http_api_event("POST", "/signin", headers=headers, cookies=[token], body=body, stage=stage))
    assert signed_in["statusCode"] == 302, answer_body(signed_in)
    assert signed_in["headers"]["location"] == first
    # Each cookie has a header of its own, because their dates contain commas.
    cookies = [pair(cookie) for cookie in signed_in["cookies"]]
    assert {cookie.split("=")[0] for cookie in cookies} >= {"csrftoken", "sessionid"}
    assert "set-cookie" not in signed_in["headers"]
    page_answer = handle(http_api_event("GET", "/dashboard/", headers={"accept": "text/html"}, cookies=cookies))
    assert page_answer["statusCode"] == 200


def test_bytes_that_are_not_text_are_sent_unchanged(server: str) -> None:
    program = Client(server).get("/agent.pyz").content
    answer = handle(http_api_event("GET", "/agent.pyz"))
    assert answer["isBase64Encoded"]
    assert answer_body(answer) == program


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A new process, as Lambda starts one."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


# Starts the function, and then validates a session. Which modules are imported before and after that, and which
# modules have dataclasses for which Python writes and compiles functions, and how many functions.
START = """
import collections, dataclasses, json, sys
compiled, make = collections.Counter(), getattr(dataclasses, "_create_fn", None)
def counted(*arguments, **options):
    frame = sys._getframe()
    while frame.f_globals["__name__"] in (__name__, "dataclasses"):
        frame = frame.f_back
    compiled[frame.f_globals["__name__"]] += 1
    return make(*arguments, **options)
dataclasses._create_fn = counted
from controlplane.lambda_handler import handler
started, compiled_by_start = [*sys.modules], dict(compiled)
assert handler(json.loads(sys.argv[1]), None)["statusCode"] == 200
print(json.dumps({"started": started, "compiled": compiled_by_start, "validated": [*sys.modules]}))
"""


@pytest.fixture(scope="module")
def cold_start(emulator: str) -> dict[str, Any]:
    headers = {"content-type": "application/json", "host": "localhost"}
    event = http_api_event("POST", "/auth/validate", headers=headers, body=b'{"session_id": "no token"}')
    event["requestContext"]["requestId"] = "the gateway's"
    return dict(json.loads(python("-c", START, json.dumps(event)).stdout))


def test_a_cold_start_imports_nothing_that_only_people_need(cold_start: dict[str, Any]) -> None:
    assert set(LATER) & set(cold_start["started"]) == set()


def test_validating_a_session_imports_no_more(cold_start: dict[str, Any]) -> None:
    assert set(LATER) & set(cold_start["validated"]) == set()


OURS = ("agent", "apps", "controlplane")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="dataclasses of Python 3.13 compiles once for a class")
def test_a_cold_start_compiles_no_functions_for_frozen_classes(cold_start: dict[str, Any]) -> None:
    """It took a ninth of a start. A class that can be changed has few, and those of fields have one."""
    ours = {name: number for name, number in cold_start["compiled"].items() if name.split(".")[0] in OURS}
    assert sum(ours.values()) <= 25, ours


def test_a_cold_start_imports_few_modules(cold_start: dict[str, Any]) -> None:
    ours = [name for name in cold_start["started"] if name.startswith(OURS)]
    assert len(ours) <= 160, ours
    assert len(cold_start["started"]) <= 920


def test_a_stage_that_cannot_answer_health_does_not_start() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        python("-c", "import controlplane.lambda_handler", ALLOWED_HOSTS="")
    assert "RuntimeError" in failed.value.stderr


def scheduled_event(function: str, name: str = "hybrid-ci-cd-test") -> dict[str, Any]:
    """What EventBridge sends for a rule that Zappa has made."""
    return {
        "detail-type": "Scheduled Event",
        "resources": [f"arn:aws:events:eu-central-1:000000000000:rule/{name}-{function}"],
        "time": clock.timestamp(clock.now()),
    }


def test_a_schedule_runs_its_function(tables: None) -> None:
    assert handle(scheduled_event("controlplane.schedules.sweep")) is None
    # Zappa puts a hash before a name that would be too long.
    assert handle(scheduled_event("controlplane.schedules.sweep", "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33")) is None


def test_a_command_of_zappa_manage_runs(tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert handle({"manage": "sweep"}) == {}
    assert "jobs taken back" in capsys.readouterr().out
    # Quotes keep words together, as in a shell.
    with pytest.raises(CommandError, match="unrecognized arguments: two words"):
        handle({"manage": "sweep 'two words'"})


@pytest.mark.parametrize(
    "event",
    [
        scheduled_event("os.getcwd"),
        scheduled_event("controlplane.schedules._private"),
        scheduled_event("controlplane.schedules"),
        {"detail-type": "Scheduled Event"},
        {"raw_command": "raise SystemExit('it ran')"},
        {"command": "os.getcwd"},
        {"Records": [{"s3": {}}]},
        {},
    ],
)
def test_any_other_event_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^No function of controlplane\.schedules|^This function takes requests"):
        handle(event)
