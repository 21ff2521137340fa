"""The document at ``/schema`` and the control plane say the same."""

import copy
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
import requests
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from apps.accounts.policies import Permission
from apps.agents.services import enrolment_token_create
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.clients import Client
from tests.signing import enrolled

ADMIN = Actor("user", "01kaadmin00000000000000000", "Ada", frozenset(Permission))

# What people see in a browser, and the document itself. Everything else is the API.
PAGES = re.compile(r"/(|signin|signout|oauth/.*|account/.*|admin.*|docs|schema|dashboard/.*)")


@pytest.fixture(scope="module")
def document() -> Any:
    return SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]


def routes(patterns: Any = None, prefix: str = "/") -> Iterator[str]:
    """Every path of the URL configuration, written as OpenAPI does."""
    for entry in patterns or get_resolver().url_patterns:
        part = str(entry.pattern).removeprefix("^").removesuffix("$")
        part = re.sub(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>", lambda found: f"{{{found[1] or found[2]}}}", part)
        if isinstance(entry, URLResolver):
            yield from routes(entry.url_patterns, prefix + part)
        elif isinstance(entry, URLPattern):
            yield prefix + part.replace("\\", "")


def filled(path: str) -> str:
    """A path with values in its parameters' places that lead to nothing."""
    values = {"name": "nothing", "attempt": "1", "sequence": "0"}
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1]) or new_id(), path)


def strict(document: Any) -> Any:
    """The same document, in which an object has no members but those described."""
    closed = copy.deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return closed


def conforms(document: Any, answer: requests.Response, path: str) -> None:
    """Fails unless the answer is one that the document announces for the path."""
    method = str(answer.request.method).lower()
    announced = document["paths"][path][method]["responses"]
    assert str(answer.status_code) in announced, f"{method} {path} answers {answer.status_code}: {answer.text}"
    content = announced[str(answer.status_code)].get("content")
    if content is None:
        assert answer.content == b""
        return
    media_type = answer.headers["Content-Type"].partition(";")[0]
    assert media_type in content
    if "json" in media_type:
        schema = {**content[media_type]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_the_document_is_served_and_valid(server: str) -> None:
    answer = Client(server).get("/schema", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    validate_schema(answer.json())  # type: ignore[no-untyped-call]


def test_every_route_is_described_and_every_description_has_a_route(document: Any) -> None:
    api = {path for path in routes() if not PAGES.fullmatch(path)}
    assert api == set(document["paths"])
    assert {"/health", "/jobs/{job_id}", "/agents/{agent_id}/heartbeat"} <= api


def test_every_method_is_described_and_every_described_one_is_allowed(document: Any, admin: Client) -> None:
    for path, operations in document["paths"].items():
        answer = admin.request("PATCH", filled(path))
        assert answer.status_code == 405, path
        allowed = set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"}
        assert allowed == {method.upper() for method in operations}, path


def test_operations_are_named_grouped_and_explained(document: Any) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["description"] and operation["tags"] for operation in operations)


def test_every_operation_that_is_not_public_says_so_and_refuses_strangers(document: Any, outsider: Client) -> None:
    public = {
        "/health",
        "/health/ready",
        "/info",
        "/agents/enrol",
        "/agent.pyz",
        "/auth/session",
        "/auth/validate",
        "/auth/logout",
    }
    schemes = set(document["components"]["securitySchemes"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            named = {name for requirement in operation.get("security", []) for name in requirement}
            assert bool(named) == (path not in public), f"{method} {path}"
            assert named <= schemes
            if named:
                answer = outsider.request(method.upper(), filled(path))
                assert answer.status_code == 401, f"{method} {path}"
                conforms(strict(document), answer, path)


def test_what_people_and_new_machines_are_answered_is_as_described(document: Any, admin: Client) -> None:
    document = strict(document)

    def ask(method: str, template: str, path: str | None = None, **arguments: Any) -> Any:
        answer = admin.request(method, path or template, **arguments)
        conforms(document, answer, template)
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else None

    ask("GET", "/health")
    ask("GET", "/info")
    pipeline = {"repository": "/srv/git/self.git", "definition": "steps: [{run: make}]"}
    ask("PUT", "/pipelines/{name}", "/pipelines/self", json=pipeline)
    ask("PUT", "/pipelines/{name}", "/pipelines/self", json=pipeline | {"definition": None})
    problem = ask("PUT", "/pipelines/{name}", "/pipelines/self", json=pipeline | {"definition": "steps: 5"})
    assert problem["code"] == "definition_invalid"
    ask("GET", "/pipelines/{name}", "/pipelines/self")
    ask("GET", "/pipelines/{name}", "/pipelines/nothing")
    assert ask("GET", "/pipelines")["pipelines"]

    job = f"/jobs/{ask('POST', '/jobs', json={'git_ref': 'main'})['job_id']}"
    assert ask("GET", "/jobs")["jobs"]
    ask("GET", "/jobs", "/jobs?status=nonsense")
    ask("GET", "/jobs/{job_id}", job)
    ask("GET", "/jobs/{job_id}", f"/jobs/{new_id()}")
    ask("GET", "/jobs/{job_id}/log", f"{job}/log")
    ask("POST", "/jobs/{job_id}/cancel", f"{job}/cancel")
    ask("POST", "/jobs/{job_id}/retry", f"{job}/retry")
    ask("DELETE", "/pipelines/{name}", "/pipelines/self")

    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN)
    machine = {
        "token": token,
        "name": "builder",
        "region": "local",
        "labels": ["linux"],
        "slots": 2,
        "hostname": "builder",
        "os": "linux",
        "arch": "x86_64",
        "version": "0.1.0",
    }
    agent_id = ask("POST", "/agents/enrol", json=machine)["agent_id"]
    assert ask("POST", "/agents/enrol", json=machine)["status"] == 401
    assert ask("GET", "/agents")["agents"]
    ask("GET", "/agents/{agent_id}", f"/agents/{agent_id}")
    ask("GET", "/agent.pyz")


def test_what_agents_are_answered_is_as_described(document: Any, server: str, admin: Client) -> None:
    document = strict(document)
    path = "/agents/{agent_id}"
    agent = enrolled(server)
    pipeline = {"repository": "/srv/git/self.git", "definition": "steps: [{run: make}]"}
    for definition in (pipeline["definition"], None):
        admin.put("/pipelines/self", json=pipeline | {"definition": definition}).raise_for_status()
        for _ in range(2):
            admin.post("/jobs", json={}).raise_for_status()
        answer = agent.send(agent.heartbeat_request())
        conforms(document, answer, f"{path}/heartbeat")
        (assignment,) = answer.json()["jobs"]
        started = agent.start(assignment)
        conforms(document, started, f"{path}/jobs/{{job_id}}/start")
        assert (started.json()["definition"] is None) == (definition is None)
        defined = agent.define(assignment, pipeline["definition"])
        conforms(document, defined, f"{path}/jobs/{{job_id}}/definition")
        conforms(document, agent.define(assignment, "steps: 5"), f"{path}/jobs/{{job_id}}/definition")
        conforms(document, agent.log(assignment, 0, b"x"), f"{path}/jobs/{{job_id}}/log/{{attempt}}/{{sequence}}")
        admin.post(f"/jobs/{assignment['job_id']}/cancel").raise_for_status()
        cancelled = agent.send(agent.heartbeat_request(running=[assignment], free_slots=0))
        conforms(document, cancelled, f"{path}/heartbeat")
        assert cancelled.json()["wishes"]
        finished = agent.finish(assignment)
        conforms(document, finished, f"{path}/jobs/{{job_id}}/finish")
        agent.start(finished.json()["next"])
        last = agent.finish(finished.json()["next"])
        conforms(document, last, f"{path}/jobs/{{job_id}}/finish")
        assert last.json() == {"next": None}
    conforms(
        document, agent.send(agent.signed(f"/agents/{agent.agent_id}/config", b"", method="GET")), f"{path}/config"
    )
