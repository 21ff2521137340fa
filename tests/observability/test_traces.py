"""Traces: the documents that X-Ray's daemon receives."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from tests.clients import Client
from tests.signing import AgentClient

ROOT, PARENT = "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8"


class Daemon:
    """A fake of X-Ray's daemon, which receives datagrams."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def documents(self) -> list[dict[str, Any]]:
        """Return the documents that have arrived since the last call."""
        found = []
        self._socket.settimeout(0.3)
        try:
            while True:
                header, _, body = self._socket.recv(65536).partition(b"\n")
                assert json.loads(header) == {"format": "json", "version": 1}
                found.append(json.loads(body))
        except TimeoutError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    listening = Daemon()
    monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", listening.address)
    yield listening
    listening.close()


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={ROOT};Parent={PARENT};Sampled=1;Lineage=25:a87bd80c:1")


def well_formed(part: dict[str, Any]) -> None:
    """Assert the rules of X-Ray for a segment document."""
    assert re.fullmatch(r"[0-9a-f]{16}", part["id"])
    assert re.fullmatch(r"[\w\s.:/%&#=+\\@-]{1,200}", part["name"], re.ASCII)
    assert part["end_time"] >= part["start_time"] > 1_500_000_000
    for inner in part.get("subsegments", ()):
        well_formed(inner)


def test_a_traced_request_is_sent_with_its_calls(
    agent: AgentClient,
    make_job: Callable[..., str],
    daemon: Daemon,
    sampled: None,
) -> None:
    job_id = make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    agent.start(assignment)
    heartbeat, start = daemon.documents()
    for document in (heartbeat, start):
        well_formed(document)
        assert (document["trace_id"], document["parent_id"], document["type"]) == (ROOT, PARENT, "subsegment")
        assert document["http"] == {"response": {"status": 200}}
        assert not document["fault"]
        assert (
            document["annotations"].items()
            >= {
                "actor_kind": "agent",
                "actor_id": agent.agent_id,
                "agent_id": agent.agent_id,
                "job_id": job_id,
                "dynamodb_calls": len(document["subsegments"]),
            }.items()
        )
        assert all(re.fullmatch(r"\w+", name) for name in document["annotations"])
    assert start["annotations"]["route"] == "/agents/{agent_id}/jobs/{job_id}/start"
    calls = [call["aws"] for call in start["subsegments"]]
    assert {"operation": "GetItem", "table_name": "hybrid-ci-cd-jobs-test", "region": "eu-central-1"} in calls
    assert calls[-1]["operation"] == "TransactWriteItems"
    assert {"hybrid-ci-cd-jobs-test", "hybrid-ci-cd-audit-test"} <= set(calls[-1]["table_names"])


def test_a_request_that_is_not_sampled_is_not_sent(
    outsider: Client, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    outsider.get("/health")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={ROOT};Parent={PARENT};Sampled=0")
    outsider.get("/health")
    assert daemon.documents() == []


def test_a_bug_is_a_fault_and_a_refusal_an_error(server: str, daemon: Daemon, sampled: None) -> None:
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        Client(server).get("/plain-bug")
    Client(server).get("/jobs")
    bug, refusal = daemon.documents()
    assert (bug["fault"], bug["error"]) == (True, False)
    assert (refusal["fault"], refusal["error"]) == (False, True)


def test_a_schedule_is_sent_too(tables: None, daemon: Daemon, sampled: None) -> None:
    call_command("sweep")
    (document,) = daemon.documents()
    well_formed(document)
    assert document["name"] == "sweep"
    assert document["subsegments"]


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:1", "host.invalid:2000"])
def test_a_missing_daemon_does_not_delay_a_request(
    outsider: Client, monkeypatch: pytest.MonkeyPatch, sampled: None, address: str
) -> None:
    monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", address)
    assert outsider.get("/health").status_code == 200


def test_a_trace_of_many_calls_fits_into_a_datagram(daemon: Daemon) -> None:
    from controlplane.lib.work import Span, Work
    from controlplane.observability.xray import subsegment_send

    tables = ("hybrid-ci-cd-enrolment-tokens-production",) * 4
    span = Span("TransactWriteItems", tables, 1.8e9, 1.8e9 + 0.01, failed=False)
    work = Work(request_id="x" * 40, route="/jobs", dynamodb_calls=5_000, spans=[span] * 5_000)
    subsegment_send(work, header=f"Root={ROOT};Parent={PARENT};Sampled=1", began=1.8e9, ended=1.8e9 + 60)
    (document,) = daemon.documents()
    assert document["annotations"]["dynamodb_calls"] == 5_000
    assert len(document["subsegments"]) < 5_000
