"""What happens while KMS or S3 fail: 503 with Retry-After, soon enough; no data is lost and no agent is refused."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ReadTimeoutError
from django.core.files.storage import storages

from apps.agents.selectors import identity_forget
from apps.jobs.selectors import job_get
from apps.jobs.services import logs_archive
from controlplane.lib import aws
from controlplane.lib.aws import ATTEMPTS, CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS
from controlplane.lib.errors import Unavailable
from tests.clients import Client
from tests.conftest import CloudServices, services_forget
from tests.faults.conftest import Askers
from tests.faults.injection import quick_retries
from tests.faults.test_http import check_retry_after, check_unavailable
from tests.faults.world import World
from tests.lib.test_data_keys import kms_calls
from tests.signing import AgentClient, enrolled

# API Gateway waits for 30 seconds.
SOON = 25


@contextmanager
def failing(service: str, monkeypatch: pytest.MonkeyPatch, status: int, body: str) -> Iterator[None]:
    """The service answers whatever it is asked with this."""

    class Answer(BaseHTTPRequestHandler):
        # Then it answers "Expect: 100-continue", for which clients wait a second otherwise.
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Not worth a line in the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    with elsewhere(service, monkeypatch, f"http://127.0.0.1:{server.server_address[1]}"), quick_retries():
        yield
    server.shutdown()
    server.server_close()


@contextmanager
def unanswering(service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The service accepts connections, which are in the list, and never answers. Time-outs are short here."""
    monkeypatch.setattr(aws, "READ_TIMEOUT_SECONDS", 0.3)
    connections: list[socket.socket] = []

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])

    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        elsewhere(service, monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}"),
        quick_retries(),
    ):
        threading.Thread(target=accept, args=(mute,), daemon=True).start()
        yield connections
        mute.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


def longest(attempts: int) -> float:
    """The most seconds that so many attempts at a call take: their time-outs, and botocore's pauses between them."""
    return attempts * (CONNECT_TIMEOUT_SECONDS + READ_TIMEOUT_SECONDS) + sum(
        2**number for number in range(attempts - 1)
    )


@contextmanager
def elsewhere(service: str, monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        _anew()
        yield
    _anew()


def _anew() -> None:
    """All clients are made again, and no data key is remembered."""
    services_forget()
    vars(storages)["_storages"].pop("logs", None)


THROTTLED = {"KMS": '{"__type": "ThrottlingException"}', "S3": "<Error><Code>SlowDown</Code></Error>"}
REFUSED = {"KMS": '{"__type": "AccessDeniedException"}', "S3": "<Error><Code>AccessDenied</Code></Error>"}
failures = pytest.mark.parametrize(
    ("status", "bodies"),
    [(400, THROTTLED), (503, THROTTLED), (500, {"KMS": "", "S3": ""}), (403, REFUSED), (400, REFUSED)],
    ids=["throttled", "slow down", "broken", "refused", "denied"],
)


@pytest.fixture
def agent(cloud_services: CloudServices, server: str) -> AgentClient:
    """An agent whose key KMS has encrypted."""
    return enrolled(server)


@pytest.fixture
def world(cloud_services: CloudServices, server: str) -> Iterator[World]:
    world = World()
    yield world
    world.close()


def forgotten(agent: AgentClient) -> None:
    """As in a process that has just started."""
    identity_forget(agent.agent_id)
    services_forget()


# --- KMS ----------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_known_costs_no_call_of_kms(agent: AgentClient) -> None:
    forgotten(agent)
    with kms_calls() as calls:
        for _ in range(5):
            agent.heartbeat()
        # A minute later its keys are read again, and KMS is still not asked.
        identity_forget(agent.agent_id)
        agent.heartbeat()
    assert calls == ["Decrypt"]


@failures
def test_an_agent_whose_key_kms_must_decrypt_gets_503_and_not_401(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch, status: int, bodies: dict[str, str]
) -> None:
    forgotten(agent)
    with failing("KMS", monkeypatch, status, bodies["KMS"]):
        check_unavailable(agent.send(agent.heartbeat_request()))
    agent.heartbeat()


def test_an_agent_that_is_known_works_on_while_kms_fails(agent: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first request with a key is recorded, after which the agent is read once more.
    agent.heartbeat()
    agent.heartbeat()
    with failing("KMS", monkeypatch, 500, ""):
        agent.heartbeat()


def test_an_enrolment_without_kms_uses_nothing_of_its_token_up(
    world: World, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"token": world.token, "name": "new", "region": "eu", "labels": [], "slots": 1}
    machine = Client(server)
    with failing("KMS", monkeypatch, 500, ""):
        for _ in range(9):
            check_unavailable(machine.post("/agents/enrol", json=body))
    assert machine.post("/agents/enrol", json=body).status_code == 201


def test_while_kms_does_not_answer_requests_fail_soon(agent: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten(agent)
    with unanswering("KMS", monkeypatch) as connections:
        check_unavailable(agent.send(agent.heartbeat_request()))
        assert len(connections) == ATTEMPTS
    assert longest(len(connections)) < SOON


# --- S3 -----------------------------------------------------------------------------------------------------------


@failures
def test_reading_a_finished_log_gets_503_with_retry_after(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch, status: int, bodies: dict[str, str]
) -> None:
    job_id = world.ended()
    logs_archive()
    with failing("S3", monkeypatch, status, bodies["S3"]):
        check_unavailable(admin.get(f"/jobs/{job_id}/log"))
        assert admin.get(f"/jobs/{job_id}").status_code == 200
    assert admin.get(f"/jobs/{job_id}/log").content == b"hello\n"


@failures
def test_a_log_that_cannot_be_archived_stays_readable_and_is_archived_later(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch, status: int, bodies: dict[str, str]
) -> None:
    job_id = world.ended()
    with failing("S3", monkeypatch, status, bodies["S3"]):
        with pytest.raises(Unavailable):
            logs_archive()
        assert admin.get(f"/jobs/{job_id}/log").content == b"hello\n"
    assert not job_get(job_id).log_stored
    assert (logs_archive(), logs_archive()) == (1, 0)
    assert admin.get(f"/jobs/{job_id}/log").content == b"hello\n"


def test_a_log_whose_storing_was_not_confirmed_is_stored_once(
    world: World, admin: Client, cloud_services: CloudServices
) -> None:
    job_id = world.ended()
    storage: Any = storages["logs"]
    client = storage.connection.meta.client

    def lose_the_answer(request: AWSPreparedRequest, **_: Any) -> None:
        client._endpoint.http_session.send(request)
        raise ReadTimeoutError(endpoint_url=request.url)

    client.meta.events.register_first("before-send.s3.PutObject", lose_the_answer, unique_id="lost")
    with quick_retries(), pytest.raises(Unavailable):
        logs_archive()
    client.meta.events.unregister("before-send.s3.PutObject", unique_id="lost")
    assert logs_archive() == 1
    kept = cloud_services.s3.list_objects_v2(Bucket=cloud_services.bucket)["Contents"]
    stored = job_get(job_id).log_stored
    assert [entry["Key"] for entry in kept] == [stored, f"{stored}.index"]
    assert admin.get(f"/jobs/{job_id}/log").content == b"hello\n"


def test_a_browser_gets_a_page(world: World, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = world.ended()
    logs_archive()
    askers = Askers(server, world)
    with failing("S3", monkeypatch, 503, THROTTLED["S3"]):
        answer = askers.browser.get(f"/dashboard/jobs/{job_id}")
    check_retry_after(answer)
    assert answer.headers["Content-Type"].startswith("text/html")


def test_while_s3_does_not_answer_requests_fail_soon(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.ended()
    logs_archive()
    with unanswering("S3", monkeypatch) as connections:
        check_unavailable(admin.get(f"/jobs/{job_id}/log", timeout=40))
        assert len(connections) == ATTEMPTS
    assert longest(len(connections)) < SOON
