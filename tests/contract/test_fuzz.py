"""schemathesis asks the control plane whatever its document allows, and whatever it does not, with all its checks.

Every operation for people is asked by five callers, with a few examples that are always the same. At night there are
many, and others each night; more with FUZZ_EXAMPLES=500 before `pytest --hypothesis-profile nightly -m nightly` of it.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import hypothesis
import pytest
import requests
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import APIOperation

from tests.clients import Client
from tests.conftest import person
from tests.dashboard.scene import Scene
from tests.emulator import items_read, items_replace
from tests.jobs.test_event_starts import deliver
from tests.pipelines.schedules import scheduled
from tests.signing import AgentClient, enrolled
from tests.sources.hooks import connected, github_push

EXAMPLES = 2
NIGHTLY_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))

CALLERS = ["nobody", "viewer", "operator", "auditor", "admin"]

# What may be answered to a request that the document allows, besides success: there is no such thing, it is not in the
# state for that, or this person may not.
_TO_GOOD = ["2xx", "401", "403", "404", "409"]
# These have rules that no JSON Schema can express: what git accepts as a ref or an address, a moment in the future,
# a cursor that we have signed, an agent's own id, a text without the null character,
# a header of visible characters, a regular expression, either of two parameters, a value in bytes of UTF-8,
# what a provider answers.
_BEYOND_SCHEMA = [
    "agent_heartbeat",
    "agents_demand",
    "agents_enrol",
    "agents_list",
    "attempt_definition",
    "attempt_finish",
    "attempt_report",
    "audit_export",
    "audit_holds_create",
    "audit_holds_events",
    "audit_list",
    "audit_seals",
    "badges_get",
    "connections_create",
    "connections_events_list",
    "connections_installations_list",
    "connections_pipelines_create",
    "connections_repositories_list",
    "definitions_check",
    "definitions_import",
    "deployments_create",
    "deployments_list",
    "device_tokens_create",
    "devices_list",
    "device_authorizations_create",
    "environments_create",
    "jobs_list",
    "jobs_log",
    "jobs_log_search",
    "jobs_retry",
    "notification_deliveries_list",
    "notification_rules_create",
    "notification_targets_create",
    "pipelines_coverage",
    "pipelines_list",
    "pipelines_save",
    "pipelines_tests",
    "rotations_configure",
    "rotations_list",
    "runs_artifacts",
    "runs_list",
    "schedules_create",
    "secrets_create",
    "secrets_deliveries",
    "secrets_list",
    "secrets_set",
    "sessions_create",
    "sessions_validate",
    "tokens_create",
]
_TO_BAD = ["400", "401", "403", "404", "405", "409", "413", "415", "422"]


def _config() -> SchemathesisConfig:
    beyond = {"expected-statuses": [*_TO_GOOD, "400", "422", "429"]}
    return SchemathesisConfig.from_dict(
        {
            # The test decides who the caller is.
            "generation": {"with-security-parameters": False},
            "checks": {
                "positive_data_acceptance": {"expected-statuses": _TO_GOOD},
                "negative_data_rejection": {"expected-statuses": _TO_BAD},
            },
            "operations": [
                {"include-operation-id": _BEYOND_SCHEMA, "checks": {"positive_data_acceptance": beyond}},
                {
                    # In a query, the number 0 is the text "0", which is a ref; and a request without a body, which
                    # starts the default pipeline, is right whatever header was to be wrong.
                    "include-operation-id": ["jobs_create", "runs_create"],
                    "checks": {
                        "positive_data_acceptance": beyond,
                        "negative_data_rejection": {"expected-statuses": [*_TO_BAD, "201"]},
                    },
                },
                {
                    # No schema says that a flag without a value is true.
                    "include-operation-id": ["connections_events_list", "jobs_log", "jobs_log_search"],
                    "checks": {
                        "positive_data_acceptance": beyond,
                        "negative_data_rejection": {"expected-statuses": [*_TO_BAD, "200"]},
                    },
                },
                {
                    # A change without a body changes nothing, and the query may name the session to end.
                    "include-operation-id": [
                        "connections_change",
                        "connections_webhook_secret_rotate",
                        "environments_change",
                        "notification_rules_change",
                        "notification_targets_change",
                        "notification_targets_rotate_secret",
                        "schedules_change",
                        "sessions_logout",
                    ],
                    "checks": {
                        "positive_data_acceptance": beyond,
                        "negative_data_rejection": {"expected-statuses": [*_TO_BAD, "200"]},
                    },
                },
            ],
        }
    )


def _operations() -> Iterator[APIOperation[Any, Any, Any, Any]]:
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    for found in schemathesis.openapi.from_dict(document, config=_config()).get_all_operations():
        yield found.ok()  # type: ignore[union-attr]


OPERATIONS = {operation.label: operation for operation in _operations()}
SIGNED = {
    label
    for label, operation in OPERATIONS.items()
    if {"agentSignature": []} in operation.definition.raw.get("security", [])
}


class Signature(requests.auth.AuthBase):
    """Signs what schemathesis sends as the agent does."""

    def __init__(self, agent: AgentClient) -> None:
        self.agent = agent

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        signed = self.agent.signed(
            request.path_url.partition("?")[0],
            body if isinstance(body, bytes) else body.encode(),
            method=str(request.method),
        )
        request.headers.update(signed.headers)
        return request


def fuzz(
    operation: APIOperation[Any, Any, Any, Any],
    server: str,
    known: dict[str, str],
    *,
    examples: int = EXAMPLES,
    **sending: Any,
) -> None:
    """Ask the operation with right and wrong data, of what there is (`known` path parameters) and of what is not."""
    names = {parameter.name for parameter in operation.path_parameters}
    real = {name: value for name, value in known.items() if name in names}
    for mode in GenerationMode if _has_wrong_data(operation) else [GenerationMode.POSITIVE]:
        anything = operation.as_strategy(mode)
        cases = st.one_of(anything, operation.as_strategy(mode, path_parameters=real)) if real else anything

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=cases)
        def ask(case: Case[Any]) -> None:
            # The control plane takes no longer address.
            hypothesis.assume(len(urlencode(case.query or {})) < 16_000)
            case.body = _whole_numbers(case.body)
            case.call_and_validate(base_url=server, timeout=30, **sending)

        ask()


def _has_wrong_data(operation: APIOperation[Any, Any, Any, Any]) -> bool:
    """Whether the document excludes anything. Hypothesis gives up looking for it only after hundreds of tries."""
    any_text = ("path", {"type": "string"})
    parameters = [parameter.definition for parameter in operation.iter_parameters()]
    return bool(operation.body) or any((found["in"], found["schema"]) != any_text for found in parameters)


def _whole_numbers(value: Any) -> Any:
    """JSON Schema takes 1.0 for an integer; the control plane does not."""
    if isinstance(value, dict):
        return {name: _whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@functools.cache
def _world(emulator: str) -> tuple[bytes, dict[str, str]]:
    """Rows of the tables, made once for all operations, and the path parameters that lead to them."""
    scene = Scene()
    scene.pipeline()
    agent = scene.agent()
    known = {"name": "self", "job_id": scene.job(), "agent_id": agent.id}
    connection_id = connected()
    event_id = deliver(github_push())
    known |= {"connection_id": connection_id, "event_id": event_id, "provider": "github"}
    known |= {"schedule_id": str(scheduled().schedule_id)}
    return items_read(emulator), known


@pytest.fixture
def known(emulator: str, server: str) -> dict[str, str]:
    items, known = _world(emulator)
    items_replace(emulator, items)
    return known


def caller(server: str, who: str) -> Client:
    """A client with an API token of someone of this role, or without credentials."""
    return Client(server) if who == "nobody" else person(server, who)


def questions() -> Iterator[Any]:
    """Operations and callers. Admins are tried with every change, and strangers where they may; others at night."""
    for label in sorted(OPERATIONS.keys() - SIGNED):
        is_open = {} in OPERATIONS[label].definition.raw.get("security", [{}])
        for who in CALLERS:
            always = who == "admin" or (who == "nobody" and is_open)
            yield pytest.param(label, who, marks=() if always else pytest.mark.nightly, id=f"{label}-{who}")


@pytest.mark.parametrize(("label", "who"), list(questions()))
def test_each_caller_is_answered_as_the_document_says(server: str, known: dict[str, str], label: str, who: str) -> None:
    fuzz(OPERATIONS[label], server, known, headers=dict(caller(server, who).session.headers))


@pytest.mark.parametrize("label", sorted(SIGNED))
def test_agents_are_answered_as_the_document_says(server: str, known: dict[str, str], label: str) -> None:
    agent = enrolled(server)
    fuzz(OPERATIONS[label], server, known | {"agent_id": agent.agent_id}, auth=Signature(agent))


@pytest.mark.nightly
@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("label", sorted(OPERATIONS.keys() - SIGNED))
def test_each_caller_is_answered_as_the_document_says_at_length(
    server: str, known: dict[str, str], label: str, who: str
) -> None:
    headers = dict(caller(server, who).session.headers)
    fuzz(OPERATIONS[label], server, known, examples=NIGHTLY_EXAMPLES, headers=headers)


@pytest.mark.nightly
@pytest.mark.parametrize("who", ["nobody", "agent"])
@pytest.mark.parametrize("label", sorted(SIGNED))
def test_agents_are_answered_as_the_document_says_at_length(
    server: str, known: dict[str, str], label: str, who: str
) -> None:
    agent = enrolled(server)
    signing = {"auth": Signature(agent)} if who == "agent" else {}
    fuzz(OPERATIONS[label], server, known | {"agent_id": agent.agent_id}, examples=NIGHTLY_EXAMPLES, **signing)
