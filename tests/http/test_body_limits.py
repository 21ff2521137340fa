"""How many bytes of body each view takes."""

import io
import json
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator

from controlplane.http.body_limits import BODY_LIMIT, view_body_limit
from controlplane.http.stored_files import stored_file
from controlplane.lib.ids import new_id
from tests.clients import Client, problem
from tests.conftest import someone
from tests.contract.test_access import sender, session_of
from tests.signing import enrolled

JSON = {"Content-Type": "application/json"}
FORM = "application/x-www-form-urlencoded"


class Unread(io.BytesIO):
    """A body that fails the test when something reads it."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readline = readlines = read  # type: ignore[assignment]


def views(patterns: Any = None) -> Iterator[Any]:
    for entry in patterns or get_resolver().url_patterns:
        if isinstance(entry, URLResolver):
            yield from views(entry.url_patterns)
        elif isinstance(entry, URLPattern):
            yield entry.callback


def test_only_views_with_long_texts_take_more_than_a_few_kilobytes() -> None:
    larger = [view for view in views() if view_body_limit(view) > BODY_LIMIT]
    names = {getattr(view, "cls", view).__name__ for view in larger if not hasattr(view, "model_admin")}
    pages = {"job_new", "pipeline_new_page", "pipeline_edit_page", "secret_new_page", "secret_set_action"}
    agents = {"heartbeat", "definition", "log", "finish", "report", "upload"}
    archives = {"artifact", "complete", "fetch", "save", "restore", "stored_file"}
    secrets = {"SecretsView", "SecretValueView", "SecretRotationView"}
    definitions = {"PipelineView", "DefinitionCheckView", "DefinitionImportView"}
    schedules = {"ScheduleView", "PipelineSchedulesView"}
    schedules |= {"DeploymentsView", "EnvironmentsView", "EnvironmentView"}
    pages |= {"schedule_list_page", "schedule_new_action", "schedule_edit_page"}
    pages |= {"environment_new_page", "environment_edit_page"}
    pages |= {"connection_new_action", "connection_change_action"}
    pages |= {"notifications_page", "target_new_action", "target_page", "rule_new_action", "rule_page"}
    events = {"TargetsView", "TargetView", "RulesView", "RuleView"}
    events |= {"ConnectionView", "ConnectionsView", "webhook", "connection_webhook"}
    assert names == {"JobsView", "RunsView"} | definitions | schedules | secrets | pages | agents | archives | events
    admin = {view.model_admin.opts.label for view in larger if hasattr(view, "model_admin")}
    assert admin == {
        "notifications.Rule",
        "notifications.Target",
        "pipelines.Pipeline",
        "secrets.Secret",
        "sources.Connection",
    }


def test_django_takes_the_largest_body_that_a_view_reads_at_once() -> None:
    """A stored file goes to the disk in blocks, so its size does not concern Django."""
    read_at_once = [view for view in views() if view is not stored_file]
    assert max(view_body_limit(view) for view in read_at_once) == settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_the_document_names_the_limit_of_each_body() -> None:
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    described = {
        operation["operationId"]: operation["requestBody"]["description"]
        for path in document["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    }
    assert described["agents_enrol"] == "At most 16,384 bytes."
    assert described["sessions_validate"] == "At most 2,048 bytes."
    assert described["jobs_create"] == "At most 131,072 bytes."
    assert all(text.startswith("At most ") for text in described.values())


@pytest.mark.parametrize("path", ["/agents/enrol", "/auth/session", "/auth/validate", "/auth/logout", "/signin"])
def test_a_body_above_the_limit_is_refused(outsider: Client, path: str) -> None:
    body = json.dumps({"x": "x" * BODY_LIMIT})
    problem(outsider.post(path, data=body, headers=JSON), 413, "too_large")


def test_a_body_of_the_limit_is_taken(outsider: Client) -> None:
    body = b'{"session_id": "x"}'.ljust(2048)
    assert outsider.post("/auth/validate", data=body, headers=JSON).json()["valid"] is False
    problem(outsider.post("/auth/validate", data=body + b" ", headers=JSON), 413, "too_large")


def test_an_agents_acknowledgement_is_small(server: str) -> None:
    agent = enrolled(server)
    problem(agent.post(f"/jobs/{new_id()}/start", b" " * (BODY_LIMIT + 1)), 413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/pipelines/self", 401),
        ("POST", "/jobs", 401),
        ("POST", "/agents/01m8cjss09gjsek8jpc1rarmm2/heartbeat", 401),
        ("POST", "/dashboard/jobs/new", 401),
        ("POST", "/admin/pipelines/pipeline/add/", 401),
    ],
)
def test_no_byte_of_a_strangers_body_is_read_before_the_credentials(
    tables: None, method: str, path: str, status: int
) -> None:
    from controlplane.wsgi import application

    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_TYPE": FORM if "/dashboard/" in path or "/admin/" in path else "application/json",
        "CONTENT_LENGTH": "100000",
        "HTTP_COOKIE": f"csrftoken={'a' * 32}; sessionid={'b' * 43}",
        "HTTP_X_CSRFTOKEN": "a" * 32,
        "wsgi.input": Unread(),
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    start_response: Any = lambda answered, _: statuses.append(answered)  # noqa: E731
    application(environ, start_response)
    assert statuses[0].startswith(str(status))


def test_a_signed_in_user_may_send_a_long_form(server: str) -> None:
    browser = session_of(server, someone("operator"))
    form = {"pipeline": "self", "env": "A=" + "ä" * 16_000}
    assert browser.post("/dashboard/jobs/new", data=form).status_code == 422
    assert sender(server).post("/dashboard/jobs/new", data=form).status_code == 401


def test_addresses_and_headers_have_limits(outsider: Client) -> None:
    problem(outsider.get("/health?" + "x" * 17_000), 414, "address_too_long")
    cookies = {f"Cookie-{number}": "x" * 8000 for number in range(5)}
    problem(outsider.get("/health", headers=cookies), 431, "headers_too_large")
