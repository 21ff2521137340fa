"""The document at ``/schema`` and the control plane say the same."""

import copy
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from django.test import override_settings
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular import validation
from drf_spectacular.generators import SchemaGenerator
from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

from apps.accounts.policies import Permission
from apps.agents.services import enrolment_token_create
from apps.notifications.services import outbox_run
from apps.secrets.services.rotation_schedule import rotations_advance
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.clients import Client
from tests.notifications.test_outbox_work import add
from tests.signing import enrolled

ADMIN = Actor("user", "01kaadmin00000000000000000", "Ada", frozenset(Permission))

# What people see in a browser, presigned URLs, and the document itself. Everything else is the API.
PAGES = re.compile(
    r"/(|signin|signout|oauth/.*|account/.*|admin.*|docs|docs/other-ci|files/.*|schema|schema/pipeline.json|guide.*"
    r"|invitation(/accept)?|device|dashboard|dashboard/.*)"
)


@pytest.fixture(scope="module")
def document() -> Any:
    return SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def closed(document: Any) -> Any:
    """The same document, in which an object has no members but those described."""
    closed = copy.deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return closed


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
    one = f"{new_id()}-1-{'0' * 32}"
    values = {
        "name": "nothing",
        "attempt": "1",
        "sequence": "0",
        "artifact_id": f"{new_id()}-{one}",
        "cache_id": one,
        "number": "0",
        "provider": "github",
    }
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1]) or new_id(), path)


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
    document = answer.json()
    assert document["openapi"].startswith("3.1.")
    openapi = json.loads(Path(validation.__file__).with_name("openapi_3_1_schema.json").read_text())
    # With a plain registry, jsonschema looks through all of OpenAPI's schema at each schema of the document.
    registry = EMPTY_REGISTRY.with_resource(openapi["$id"], DRAFT202012.create_resource(openapi)).crawl()
    jsonschema.Draft202012Validator(openapi, registry=registry).validate(document)


def test_every_route_is_described_and_every_description_has_a_route(document: Any) -> None:
    api = {path for path in routes() if not PAGES.fullmatch(path)}
    assert api == set(document["paths"])
    assert {"/health", "/jobs/{job_id}", "/agents/{agent_id}/heartbeat"} <= api


def test_every_method_is_described_and_every_described_one_is_allowed(document: Any, admin: Client) -> None:
    for path, operations in document["paths"].items():
        # A method that no endpoint has.
        answer = admin.request("PROPFIND", filled(path))
        assert answer.status_code == 405, path
        allowed = set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"}
        assert allowed == {method.upper() for method in operations}, path


def test_operations_are_named_grouped_and_explained(document: Any) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["description"] and operation["tags"] for operation in operations)


def test_every_operation_that_is_not_public_says_so_and_refuses_strangers(
    document: Any, closed: Any, outsider: Client
) -> None:
    public = {
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/health",
        "/health/ready",
        "/info",
        "/agents/enrol",
        "/agent.pyz",
        "/badges/{name}.svg",
        "/auth/session",
        "/auth/validate",
        "/auth/logout",
        "/auth/device-authorization",
        "/auth/device-token",
    }
    schemes = set(document["components"]["securitySchemes"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            named = {name for requirement in operation.get("security", []) for name in requirement}
            is_public = path in public and (method, path) != ("get", "/auth/session")
            assert bool(named) != is_public, f"{method} {path}"
            assert named <= schemes
            if named:
                answer = outsider.request(method.upper(), filled(path))
                # A webhook without its signature is refused, and no sign-in would help.
                refused = 403 if named == {"webhookSignature"} else 401
                assert answer.status_code == refused, f"{method} {path}"
                conforms(closed, answer, path)


def test_generated_clients_get_the_text_of_a_log_and_the_headers_to_go_on(document: Any) -> None:
    operation = document["paths"]["/jobs/{job_id}/log"]["get"]
    for status in ("200", "206"):
        # With format "binary", openapi-python-client makes a file of the text, and fails.
        assert operation["responses"][status]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    assert "content" not in operation["responses"]["302"]
    described = {status: set(response.get("headers", {})) for status, response in operation["responses"].items()}
    assert {"X-Offset", "X-Next-Offset", "X-Log-Complete", "Link", "Accept-Ranges", "ETag"} <= described["200"]
    assert {"Content-Range", "ETag", "X-Next-Offset"} <= described["206"]
    assert "Location" in described["302"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    asked = {"offset", "limit", "tail", "attempt", "step", "timestamps", "download", "Range", "If-Range"}
    assert set(parameters) == {"job_id", *asked}
    assert not any(parameters[name].get("required") for name in asked)
    search = document["paths"]["/jobs/{job_id}/log/search"]["get"]
    assert [parameter["name"] for parameter in search["parameters"] if parameter.get("required")] == ["job_id", "q"]
    (content,) = search["responses"]["200"]["content"].values()
    assert content["schema"]["$ref"].endswith("/LogSearch")


def test_what_people_and_new_machines_are_answered_is_as_described(closed: Any, admin: Client) -> None:
    def ask(method: str, template: str, path: str | None = None, **arguments: Any) -> Any:
        answer = admin.request(method, path or template, **arguments)
        conforms(closed, answer, template)
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else None

    ask("GET", "/health")
    ask("GET", "/info")
    assert ask("GET", "/auth/whoami")["kind"] == "token"
    pipeline = {"repository": "/srv/git/self.git", "definition": "steps: [{run: make}]"}
    ask("PUT", "/pipelines/{name}", "/pipelines/self", json=pipeline)
    ask("PUT", "/pipelines/{name}", "/pipelines/self", json=pipeline | {"definition": None})
    problem = ask("PUT", "/pipelines/{name}", "/pipelines/self", json=pipeline | {"definition": "steps: 5"})
    assert problem["code"] == "definition_invalid"
    ask("GET", "/pipelines/{name}", "/pipelines/self")
    ask("GET", "/pipelines/{name}", "/pipelines/nothing")
    assert ask("GET", "/pipelines")["pipelines"]
    assert ask("POST", "/definitions/check", json={"definition": "steps: [{run: make}]"})["jobs"]
    assert ask("POST", "/definitions/check", json={"definition": "steps: 5"})["errors"]
    workflow = {"product": "github", "text": "on: push\njobs: {a: {runs-on: x, steps: [{run: make}, {uses: a/b@v1}]}}"}
    assert ask("POST", "/definitions/import", json=workflow)["remarks"]
    ask("POST", "/definitions/import", json=workflow | {"text": "["})

    job = f"/jobs/{ask('POST', '/jobs', json={'git_ref': 'main'})['job_id']}"
    assert ask("GET", "/jobs")["jobs"]
    ask("GET", "/jobs", "/jobs?status=nonsense")
    ask("GET", "/jobs/{job_id}", job)
    ask("GET", "/jobs/{job_id}", f"/jobs/{new_id()}")
    ask("GET", "/jobs/{job_id}/log", f"{job}/log")
    ask("GET", "/jobs/{job_id}/log", f"{job}/log?attempt=1")
    ask("GET", "/jobs/{job_id}/log/search", f"{job}/log/search?q=x")
    ask("POST", "/jobs/{job_id}/cancel", f"{job}/cancel")
    ask("POST", "/jobs/{job_id}/retry", f"{job}/retry")
    hub = {"connection_id": "hub", "provider": "github"}
    assert ask("POST", "/connections", json=hub)["webhook_secret"]
    ask("POST", "/connections", json=hub)
    assert ask("GET", "/connections")["connections"]
    ask("GET", "/connections/{connection_id}", "/connections/hub")
    ask("PATCH", "/connections/{connection_id}", "/connections/hub", json={"name": "Hub"})
    ask("POST", "/connections/{connection_id}/webhook-secret", "/connections/hub/webhook-secret", json={})
    ask("GET", "/connections/{connection_id}/events", "/connections/hub/events")
    ask("GET", "/connections/{connection_id}/events/{event_id}", f"/connections/hub/events/{'0' * 32}")
    ask("DELETE", "/connections/{connection_id}", "/connections/hub")
    assert ask("POST", "/pipelines/{name}/pause", "/pipelines/self/pause")["paused_at"]
    assert ask("POST", "/pipelines/{name}/resume", "/pipelines/self/resume")["paused_at"] is None
    nightly = {"name": "nightly", "cron": "H 3 * * 1-5", "zone": "Europe/Berlin", "parameters": {"deep": True}}
    listed = ("/pipelines/{name}/schedules", "/pipelines/self/schedules")
    assert len(ask("POST", *listed, json=nightly)["next_times"]) == 3
    ask("POST", *listed, json=nightly)
    ask("POST", *listed, json=nightly | {"cron": "61 * * * *"})
    assert ask("GET", *listed)["schedules"][0]["last_run_status"] is None
    one = ("/schedules/{schedule_id}", "/schedules/self.nightly")
    assert ask("PATCH", *one, json={"git_ref": "release", "parameters": {}})["parameters"] == {}
    assert ask("GET", *one)["git_ref"] == "release"
    ask("GET", one[0], "/schedules/nothing")
    assert ask("POST", f"{one[0]}/pause", f"{one[1]}/pause")["next_times"] == []
    assert ask("POST", f"{one[0]}/resume", f"{one[1]}/resume")["paused_at"] is None
    ask("DELETE", *one)
    frozen = {"from": "FRI 16:00", "until": "MON 08:00", "zone": "Europe/Berlin"}
    gated = {"name": "production", "approvals": 1, "approver_roles": ["admin"], "freezes": [frozen]}
    assert ask("POST", "/environments", json=gated)["live"] == []
    ask("POST", "/environments", json=gated)
    ask("POST", "/environments", json={"name": "x", "freezes": [{"from": "MON", "until": "x"}]})
    assert ask("GET", "/environments")["environments"]
    there = ("/environments/{name}", "/environments/production")
    assert ask("PATCH", *there, json={"wait_seconds": 60, "allowed_refs": ["main"]})["approvals"] == 1
    ask("GET", *there)
    ask("GET", there[0], "/environments/nothing")
    begun = ask("POST", "/deployments", json={"environment": "production", "pipeline": "self", "git_ref": "main"})
    ask("POST", "/deployments", json={"environment": "production", "pipeline": "self", "git_ref": "other"})
    assert ask("GET", "/deployments", f"/deployments?run_id={begun['run_id']}")["deployments"] == []
    assert ask("GET", "/deployments", "/deployments?environment=production")["deployments"] == []
    for act in ("", "/changes", "/approve", "/reject", "/rollback", "/redeploy"):
        method = "GET" if act in ("", "/changes") else "POST"
        ask(method, f"/deployments/{{deployment_id}}{act}", f"/deployments/{new_id()}{act}")
    ask("DELETE", *there)
    ask("DELETE", "/pipelines/{name}", "/pipelines/self")

    secret = {"name": "PYPI_TOKEN", "value": "correct horse", "scope": {"pipeline": "self", "branches": ["main"]}}
    place = f"/secrets/{ask('POST', '/secrets', json=secret)['secret_id']}"
    ask("POST", "/secrets", json=secret)
    ask("POST", "/secrets", json={"name": "path"})
    assert ask("GET", "/secrets")["secrets"]
    ask("GET", "/secrets/{secret_id}", place)
    ask("GET", "/secrets/{secret_id}", "/secrets/NOTHING")
    ask("PATCH", "/secrets/{secret_id}", place, json={"description": "Uploads wheels."})
    assert ask("PUT", "/secrets/{secret_id}/value", f"{place}/value", json={"value": "battery staple"})["version"] == 2
    assert len(ask("GET", "/secrets/{secret_id}/versions", f"{place}/versions")["versions"]) == 2
    assert ask("GET", "/secrets/{secret_id}/deliveries", f"{place}/deliveries")["deliveries"] == []
    rotation = {"rotator": "generated", "schedule": {"every_days": 30, "at": "03:00", "weekday": "friday"}}
    ask("GET", "/secrets/{secret_id}/rotation", f"{place}/rotation")
    ask("PUT", "/secrets/{secret_id}/rotation", f"{place}/rotation", json={"rotator": "none"})
    assert ask("PUT", "/secrets/{secret_id}/rotation", f"{place}/rotation", json=rotation)["next_at"]
    assert ask("GET", "/secrets/{secret_id}/rotation", f"{place}/rotation")["rotation_id"] is None
    begun = ask("POST", "/secrets/{secret_id}/rotate", f"{place}/rotate")["rotation_id"]
    ask("POST", "/secrets/{secret_id}/rotate", f"{place}/rotate")
    assert len(ask("GET", "/secrets/{secret_id}/rotations", f"{place}/rotations")["rotations"]) == 1
    assert ask("GET", "/rotations/{rotation_id}", f"/rotations/{begun}")["state"] == "rotating"
    ask("GET", "/rotations/{rotation_id}", "/rotations/NOTHING")
    ask("POST", "/rotations/{rotation_id}/hasten", f"/rotations/{begun}/hasten")
    ask("POST", "/rotations/{rotation_id}/stop", f"/rotations/{begun}/stop")
    ask("DELETE", "/secrets/{secret_id}/rotation", f"{place}/rotation")
    ask("DELETE", "/secrets/{secret_id}", place)
    rotations_advance(seconds=9)
    ask("POST", "/rotations/{rotation_id}/stop", f"/rotations/{begun}/stop")
    ask("DELETE", "/secrets/{secret_id}/rotation", f"{place}/rotation")
    ask("DELETE", "/secrets/{secret_id}", place)

    target = {"name": "hook", "kind": "webhook", "url": "https://127.0.0.1:1/in"}
    with override_settings(OUTGOING_NETWORKS=["127.0.0.0/8"]):
        made = ask("POST", "/notification-targets", json=target)
    assert made["secret"].startswith("whsec_")
    ask("POST", "/notification-targets", json=target | {"url": "https://10.0.0.1/"})
    ask("POST", "/notification-targets", json=target | {"kind": "pigeon"})
    assert "secret" not in ask("GET", "/notification-targets")["targets"][0]
    one = ("/notification-targets/{target_id}", f"/notification-targets/{made['target_id']}")
    assert ask("PATCH", *one, json={"name": "renamed"})["name"] == "renamed"
    assert ask("GET", *one)["shown"] == "127.0.0.1"
    ask("GET", one[0], "/notification-targets/nothing")
    assert ask("POST", f"{one[0]}/rotate-secret", f"{one[1]}/rotate-secret", json={})["overlap_until"]
    rule = {"target_id": made["target_id"], "occasions": ["failed", "rotation_failed"]}
    ruled = ask("POST", "/notification-rules", json=rule)["rule_id"]
    ask("POST", "/notification-rules", json=rule | {"occasions": []})
    assert ask("GET", "/notification-rules")["rules"]
    ask("PATCH", "/notification-rules/{rule_id}", f"/notification-rules/{ruled}", json={"branches": ["main"]})
    ask("GET", "/notification-rules/{rule_id}", f"/notification-rules/{ruled}")
    sent = ask("POST", f"{one[0]}/test", f"{one[1]}/test")
    assert (sent["state"], len(sent["attempts"])) == ("failed", 1)
    assert ask("GET", "/notification-deliveries")["deliveries"] == [sent]
    delivery = f"/notification-deliveries/{sent['delivery_id']}"
    ask("GET", "/notification-deliveries/{delivery_id}", delivery)
    ask("POST", "/notification-deliveries/{delivery_id}/redeliver", f"{delivery}/redeliver")
    ask("DELETE", "/notification-rules/{rule_id}", f"/notification-rules/{ruled}")
    ask("DELETE", *one)
    add("poison", 1)
    for hours in (0, 25):
        with clock.shifted(timedelta(hours=hours)):
            outbox_run({}, seconds=5)
    failed = ask("GET", "/outbox/failed")["items"][0]
    ask("POST", "/outbox/failed/{item_id}/retry", f"/outbox/failed/{failed['item_id']}/retry")
    ask("POST", "/outbox/failed/{item_id}/retry", f"/outbox/failed/{failed['item_id']}/retry")

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
    assert ask("GET", "/agents/demand")["regions"]
    ask("GET", "/agents/{agent_id}", f"/agents/{agent_id}")
    assert ask("POST", "/agents/{agent_id}/drain", f"/agents/{agent_id}/drain")["status"] == "draining"
    ask("POST", "/agents/{agent_id}/resume", f"/agents/{agent_id}/resume")
    ask("GET", "/agent.pyz")


def test_what_agents_are_answered_is_as_described(closed: Any, server: str, admin: Client) -> None:
    path = "/agents/{agent_id}"
    agent = enrolled(server)
    pipeline = {"repository": "/srv/git/self.git", "definition": "steps: [{run: make}]"}
    for definition in (pipeline["definition"], None):
        admin.put("/pipelines/self", json=pipeline | {"definition": definition}).raise_for_status()
        for _ in range(2):
            admin.post("/jobs", json={}).raise_for_status()
        answer = agent.send(agent.heartbeat_request())
        conforms(closed, answer, f"{path}/heartbeat")
        (assignment,) = answer.json()["jobs"]
        started = agent.start(assignment)
        conforms(closed, started, f"{path}/jobs/{{job_id}}/start")
        assert (started.json()["definition"] is None) == (definition is None)
        defined = agent.define(assignment, pipeline["definition"])
        conforms(closed, defined, f"{path}/jobs/{{job_id}}/definition")
        conforms(closed, agent.define(assignment, "steps: 5"), f"{path}/jobs/{{job_id}}/definition")
        conforms(closed, agent.log(assignment, 0, b"x"), f"{path}/jobs/{{job_id}}/log/{{attempt}}/{{sequence}}")
        job = "/jobs/{job_id}"
        log = f"/jobs/{assignment['job_id']}/log"
        conforms(closed, admin.get(f"{log}?attempt={assignment['attempt']}&timestamps"), f"{job}/log")
        conforms(closed, admin.get(f"{log}/search?q=x"), f"{job}/log/search")
        admin.post(f"/jobs/{assignment['job_id']}/cancel").raise_for_status()
        cancelled = agent.send(agent.heartbeat_request(running=[assignment], free_slots=0))
        conforms(closed, cancelled, f"{path}/heartbeat")
        assert cancelled.json()["wishes"]
        finished = agent.finish(assignment)
        conforms(closed, finished, f"{path}/jobs/{{job_id}}/finish")
        agent.start(finished.json()["next"])
        last = agent.finish(finished.json()["next"])
        conforms(closed, last, f"{path}/jobs/{{job_id}}/finish")
        assert last.json() == {"next": None}
    conforms(closed, agent.send(agent.signed(f"/agents/{agent.agent_id}/config", b"", method="GET")), f"{path}/config")
