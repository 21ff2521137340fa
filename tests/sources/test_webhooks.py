"""``POST /webhooks/…``: who is let in, what is stored of whom, and what no payload can do."""

import copy
import json
from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.sources.models import SPACE, Connection, Delivery
from apps.sources.providers.interface import (
    SourceEvent,
    WebhookRequest,
    event_as_json,
    event_from_json,
    provider_of,
)
from apps.sources.selectors import connection_get, delivery_list
from apps.sources.services import connection_secret_rotate, delivery_accept
from apps.sources.states import ProviderName
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.examples import examples
from tests.metering import dynamodb_calls
from tests.sources.hooks import (
    HEADERS,
    SECRET,
    STANDARD_SECRET,
    bound,
    connected,
    gitea_pull,
    gitea_push,
    github_headers,
    github_pull,
    github_push,
    github_repository,
    gitlab_merge_request,
    gitlab_push,
    send,
    standard_headers,
    standard_push,
)


def stored() -> list[Delivery]:
    return delivery_list("hub").deliveries


def raw_connection(secret: str = SECRET) -> Connection:
    """A connection that is not stored."""
    connection = Connection(SPACE, "hub")
    connection.secret = lambda attribute: secret if attribute == "webhook_secret" else None  # type: ignore[method-assign]
    return connection


def test_githubs_documented_example_verifies() -> None:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation"""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    github = provider_of("github")
    headers = {"x-hub-signature-256": signature}
    github.verify(raw_connection(), WebhookRequest(headers, b"Hello, World!"))
    with pytest.raises(Forbidden):
        github.verify(raw_connection(), WebhookRequest(headers, b"Hello, World?"))


@pytest.mark.parametrize(
    ("provider", "payload", "header"),
    [
        ("github", github_push(), "X-Hub-Signature-256"),
        ("gitlab", gitlab_push(), "X-Gitlab-Token"),
        ("gitea", gitea_push(), "X-Gitea-Signature"),
        ("standard", standard_push(), "webhook-signature"),
    ],
)
def test_only_who_knows_the_secret_is_let_in(
    server: str, provider: str, payload: Mapping[str, Any], header: str
) -> None:
    connected(provider=provider)
    body = json.dumps(payload).encode()
    right = HEADERS[provider]("push", body)
    where, outsider = f"/webhooks/{provider}/hub", Client(server)
    problem(outsider.post(where, data=body, headers={**right, header: ""}), 403, "signature_missing")
    wrong = {**right, header: right[header][:-4] + "AAAA"}
    problem(outsider.post(where, data=body, headers=wrong), 403, "signature_invalid")
    if provider != "gitlab":
        problem(outsider.post(where, data=body + b" ", headers=right), 403, "signature_invalid")
    problem(outsider.post(f"/webhooks/{provider}/no-such", data=body, headers=right), 403, "signature_invalid")
    problem(outsider.post("/webhooks/bitbucket/hub", data=body, headers=right), 404, "not_found")
    assert stored() == []
    assert outsider.post(where, data=body, headers=right).status_code == 202
    assert len(stored()) == 1


@pytest.mark.parametrize("off", [-301, 330])
def test_an_old_message_is_refused_although_it_is_signed(server: str, off: int) -> None:
    connected(provider="standard")
    answer = send(server, standard_push(), provider="standard", connection="hub", at=clock.epoch() + off)
    problem(answer, 403, "signature_expired")
    assert stored() == []


def test_nothing_is_parsed_before_the_signature_is_verified(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connected()

    def never(*_: Any) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("apps.sources.providers.payloads.json", SimpleNamespace(loads=never))
    headers = {**github_headers("push", b"{"), "X-Hub-Signature-256": "sha256=" + "0" * 64}
    problem(Client(server).post("/webhooks/github", data=b"{", headers=headers), 403, "signature_invalid")


def test_the_one_webhook_of_an_app_finds_its_connection_by_the_apps_id(server: str) -> None:
    connected("first", app_id="1")
    connected("second", app_id="2")
    assert send(server, github_push(), app="2").status_code == 202
    assert (len(delivery_list("first").deliveries), len(delivery_list("second").deliveries)) == (0, 1)
    problem(send(server, github_push(), app="3"), 403, "signature_invalid")


def test_two_secrets_are_alive_for_a_day_after_a_rotation(server: str) -> None:
    connected()
    _, new = connection_secret_rotate(actor=ADMIN, connection_id="hub")
    assert send(server, github_push(), secret=SECRET, delivery="1").status_code == 202
    assert send(server, github_push(), secret=new, delivery="2").status_code == 202
    with clock.shifted(timedelta(hours=24, seconds=1)):
        problem(send(server, github_push(), secret=SECRET, delivery="3"), 403, "signature_invalid")
        assert send(server, github_push(), secret=new, delivery="4").status_code == 202


def test_a_leaked_secret_ends_at_once(server: str) -> None:
    connected()
    connection_secret_rotate(actor=ADMIN, connection_id="hub", leaked=True)
    problem(send(server, github_push(), secret=SECRET), 403, "signature_invalid")


def test_a_stranger_cannot_fill_the_list_or_lock_out_the_provider(server: str) -> None:
    connected()
    for number in range(30):
        answer = send(server, {"a": "x" * 2_000}, connection="hub", secret="guessed", delivery=str(number))
        problem(answer, 403, "signature_invalid")
    noted = connection_get("hub")
    assert (stored(), noted.refused_because[:27]) == ([], "The signature does not matc")
    assert send(server, github_push(), connection="hub").status_code == 202
    at = noted.refused_at
    with clock.shifted(timedelta(seconds=61)):
        send(server, {}, connection="hub", secret="guessed")
    assert connection_get("hub").refused_at > at


def test_what_a_stranger_costs(server: str) -> None:
    connected()
    send(server, {}, connection="hub", secret="guessed")
    body = b"x" * 1_000_000
    with dynamodb_calls() as calls:
        headers = {**github_headers("push", body), "X-Hub-Signature-256": ""}
        problem(Client(server).post("/webhooks/github/hub", data=body, headers=headers), 403, "signature_missing")
        assert calls.operations == []
        headers["X-Hub-Signature-256"] = "sha256=" + "0" * 64
        problem(Client(server).post("/webhooks/github/hub", data=body, headers=headers), 403, "signature_invalid")
        assert calls.operations == ["GetItem"]


def test_a_webhook_may_have_four_megabytes(server: str) -> None:
    connected()
    body = json.dumps({**github_push(), "padding": "x" * 3_990_000}).encode()
    assert Client(server).post("/webhooks/github", data=body, headers=github_headers("push", body)).status_code == 202
    larger = body + b" " * 20_000
    answer = Client(server).post("/webhooks/github", data=larger, headers=github_headers("push", larger))
    problem(answer, 413, "too_large")


def test_a_signed_webhook_that_cannot_be_read_is_in_the_list_with_the_reason(server: str) -> None:
    connected()
    for number, body in enumerate((b"{", b"[]", b"\xff", b'{"a": ' + b"[" * 100_000)):
        headers = github_headers("push", body, delivery=str(number))
        assert Client(server).post("/webhooks/github", data=body, headers=headers).status_code == 202
    found = delivery_list("hub", troubled=True).deliveries
    assert [(one.state, one.reason[:8]) for one in found] == [("refused", "The body")] * 4


def test_githubs_forms_are_read_too(server: str) -> None:
    connected()
    body = urlencode({"payload": json.dumps(github_push(message="Übergrößen & mehr"))}).encode()
    headers = github_headers("push", body) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert Client(server).post("/webhooks/github", data=body, headers=headers).status_code == 202
    (delivery,) = stored()
    assert (delivery.summary, delivery.events[0]["title"]) == ("push to main", "Übergrößen & mehr")


def test_a_ping_is_taken_and_starts_nothing(server: str) -> None:
    connected()
    send(server, {"zen": "Design for failure.", "hook_id": 1, "repository": github_repository()}, "ping")
    (delivery,) = stored()
    assert (delivery.state, delivery.kind, delivery.reason) == ("done", "ping", "Events of this kind start no runs.")


def test_what_is_stored_of_a_large_webhook_is_small() -> None:
    paths = [f"{number:04d}" * 500 for number in range(900)]
    many = {
        "action": "created",
        "installation": {"id": 1, "account": {"login": "acme"}},
        "repositories": [{"full_name": f"acme/{number}"} for number in range(20_000)],
    }
    for provider, kind, payload in (
        ("standard", "", standard_push(changed_paths=paths)),
        ("github", "push", github_push(paths=tuple(paths), message="x" * 500_000)),
        ("github", "installation", many),
    ):
        (event,) = read(provider, kind, payload)
        assert event.changed_paths is None
        assert len(json.dumps(event_as_json(event))) < 100_000


def test_a_strangers_bytes_are_hashed_with_few_secrets(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        connected(f"hub-{number}")
    tried: list[str] = []

    def note(connection: Connection) -> list[str]:
        tried.append(str(connection.name))
        return []

    monkeypatch.setattr("apps.sources.providers.payloads.webhook_secrets", note)
    headers = {name.lower(): value for name, value in github_headers("push", b"{}").items()}
    with pytest.raises(Forbidden):
        delivery_accept(provider=ProviderName.GITHUB, connection_id=None, request=WebhookRequest(headers, b"{}"))
    assert len(tried) == 10


def read(provider: str, kind: str, payload: Any) -> list[SourceEvent]:
    """What a provider reads of a payload. Raises InvalidInput."""
    body = json.dumps(payload).encode()
    headers = {name.lower(): value for name, value in HEADERS[provider](kind, body).items()}
    return provider_of(provider).events(WebhookRequest(headers, body))


DOCUMENTED = [
    ("github", "push", github_push()),
    ("github", "pull_request", github_pull("synchronize", before="a" * 40)),
    ("github", "check_run", {"action": "rerequested", "check_run": {"head_sha": "b" * 40, "external_id": "x"}}),
    ("github", "installation", {"action": "created", "installation": {"id": 1, "account": {"login": "acme"}}}),
    (
        "github",
        "repository",
        {
            "action": "renamed",
            "changes": {"repository": {"name": {"from": "a"}}},
            "repository": github_repository(),
        },
    ),
    ("gitlab", "Push Hook", gitlab_push()),
    ("gitlab", "Merge Request Hook", gitlab_merge_request("update", oldrev="a" * 40)),
    ("gitea", "push", gitea_push()),
    ("gitea", "pull_request", gitea_pull()),
    ("standard", "", standard_push()),
]
_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.sampled_from(["x" * 5_000, "\x00", "0" * 40, "refs/heads/", "../..", "refs/heads/\u202e", "9" * 400, -1, 1e300]),
    st.lists(st.integers() | st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every member and entry of a payload."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for name, content in inner for one in [(*path, name), *places(content, (*path, name))]]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A documented payload with up to three members replaced or removed."""
    provider, kind, payload = draw(st.sampled_from(DOCUMENTED))
    payload = copy.deepcopy(payload)
    for _ in range(draw(st.integers(1, 3))):
        found = places(payload)
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        holder = payload
        for name in way:
            holder = holder[name]
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[last]
        else:
            holder[last] = draw(_JUNK)
    return provider, kind, payload


def check(case: tuple[str, str, Any]) -> None:
    """What a provider reads of a payload can be stored and read again, and no payload breaks it."""
    try:
        found = read(*case)
    except InvalidInput:
        return
    for event in found:
        members = json.loads(json.dumps(event_as_json(event)))
        assert event_from_json(members) == event
        assert len(json.dumps(members)) < 100_000


def test_a_merge_request_without_a_title_can_be_stored_and_read_again() -> None:
    payload = gitlab_merge_request("open")
    del payload["object_attributes"]["title"], payload["object_attributes"]["last_commit"]
    check(("gitlab", "Merge Request Hook", payload))


@given(mutated())
@settings(max_examples=examples(40), deadline=None)
def test_no_payload_breaks_a_provider(case: tuple[str, str, Any]) -> None:
    check(case)


@pytest.mark.nightly
@given(mutated())
@settings(max_examples=10_000, deadline=None)
def test_no_payload_breaks_a_provider_at_length(case: tuple[str, str, Any]) -> None:
    check(case)


@pytest.mark.parametrize("count", [10, pytest.param(1_000, marks=pytest.mark.nightly)])
def test_no_signed_payload_makes_the_control_plane_fail(server: str, count: int) -> None:
    for name in ProviderName:
        connected(name.value, name.value)
        bound(
            name.value, definition="steps: [{run: make}]\non: {push: {}, pull_request: {}, tag: {}}", source=name.value
        )

    @given(mutated())
    @settings(max_examples=count, deadline=None)
    def ask(case: tuple[str, str, Any]) -> None:
        provider, kind, payload = case
        assert send(server, payload, kind, provider=provider, connection=provider).status_code == 202

    ask()
    for name in ProviderName:
        for delivery in delivery_list(name.value, limit=100).deliveries:
            assert delivery.state in ("done", "refused", "failed"), delivery.reason
            assert "server failed" not in str(delivery.reason)


@pytest.mark.parametrize("text", ["é" * 64, "sha256=" + "é" * 64, "\x7f", "sha256=", "0" * 9000])
def test_no_signature_breaks_the_comparison(text: str) -> None:
    for provider in ProviderName:
        functions = provider_of(provider)
        headers = dict.fromkeys(functions.SIGNATURES, text) | {"webhook-id": "a", "webhook-timestamp": "1"}
        secret = STANDARD_SECRET if provider == ProviderName.STANDARD else SECRET
        with pytest.raises(ApplicationError):
            functions.verify(raw_connection(secret), WebhookRequest(headers, b"{}"))


def test_the_standards_own_form_of_several_signatures_is_read(server: str) -> None:
    connected(provider="standard")
    body = json.dumps(standard_push()).encode()
    headers = standard_headers("", body)
    headers["webhook-signature"] = f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"
    assert Client(server).post("/webhooks/standard/hub", data=body, headers=headers).status_code == 202
