"""Requests: which are retried, which are not, and how many connections they use."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent import address, clock
from agent.client import Backoff, GivenUp, Refused, Unreachable
from agent.identity import plain_id
from agent.refusals import ABOUT_AGENT, ABOUT_REQUEST
from tests.agent.peers import PROBLEM, Client, problem


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate for 127.0.0.1, with its key, that this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.fromtimestamp(clock.epoch(), UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def send(peer: Any, client: Client | None = None) -> Any:
    return (client or Client(peer.url)).send("POST", "/x", understand=lambda answer: answer["ok"])


def test_one_connection_serves_many_requests(peer: Any) -> None:
    client = Client(peer.url)
    assert [send(peer, client) for _ in range(5)] == [True] * 5
    assert len({port for _, port in peer.seen}) == 1


def test_a_connection_that_the_server_closed_is_replaced_without_an_error(peer: Any) -> None:
    peer.close_quietly = True
    client = Client(peer.url)
    for _ in range(3):
        assert send(peer, client)
        time.sleep(0.05)
    assert len({port for _, port in peer.seen}) == 3


def test_one_tls_connection_serves_many_requests(peer: Any, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    peer.server.socket = context.wrap_socket(peer.server.socket, server_side=True)
    client = Client(peer.url.replace("http:", "https:"))
    for _ in range(3):
        assert send(peer, client)
        time.sleep(0.05)
    assert len({port for _, port in peer.seen}) == 1


def test_an_untrusted_certificate_is_refused(peer: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    peer.server.socket = context.wrap_socket(peer.server.socket, server_side=True)
    with pytest.raises(Unreachable, match="certificate verify failed"):
        send(peer, Client(peer.url.replace("http:", "https:")))
    assert peer.seen == []


def test_the_path_of_the_address_is_a_prefix_of_every_request_path(peer: Any) -> None:
    assert send(peer, Client(f"{peer.url}/staging/"))
    assert peer.seen[0][0] == "/staging/x"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 599])
def test_a_busy_or_broken_server_raises_a_retryable_error(status: int, peer: Any) -> None:
    peer.script[:] = [(status, {"Retry-After": "7"}, b"")]
    with pytest.raises(Unreachable) as caught:
        send(peer)
    assert caught.value.retry_after == 7


def test_a_retry_after_may_be_a_date(peer: Any) -> None:
    moment = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(clock.epoch() + 20))
    peer.script[:] = [(503, {"Retry-After": moment}, b"")]
    with pytest.raises(Unreachable) as caught:
        send(peer)
    assert caught.value.retry_after == pytest.approx(20, abs=2)


@pytest.mark.parametrize("text", ["soon", "-5", "", "1e9"])
def test_an_invalid_retry_after_is_ignored(text: str, peer: Any) -> None:
    peer.script[:] = [(503, {"Retry-After": text}, b"")]
    with pytest.raises(Unreachable) as caught:
        send(peer)
    assert caught.value.retry_after in (None, 0)


@pytest.mark.parametrize("code", sorted(ABOUT_REQUEST))
def test_a_refusal_of_one_request_by_the_control_plane_is_final_and_names_the_reason(code: str, peer: Any) -> None:
    peer.script[:] = [(409, PROBLEM, problem(code))]
    with pytest.raises(Refused, match=rf"409 {code}: Some detail\.") as caught:
        Client(peer.url).insist("POST", "/x", understand=lambda answer: answer["ok"], stop=threading.Event())
    assert (caught.value.status, caught.value.code, caught.value.errors) == (409, code, [{"field": "a"}])
    assert len(peer.seen) == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/html"}, b"<html>Blocked by the firewall</html>"),
        ({"Content-Type": "application/json"}, b'{"message":"Forbidden"}'),
        ({"Content-Type": "application/json"}, b'{"code":"stale_attempt","detail":"of another product"}'),
        (PROBLEM, b'{"title":"Forbidden","status":403}'),
        (PROBLEM, problem("some_code_of_a_gateway")),
        (PROBLEM, b"[" * 100_000),
        ({"Location": "https://portal.example.org/sign-in"}, b""),
    ],
)
def test_a_refusal_that_is_not_one_of_the_control_planes_own_codes_is_retried(
    headers: dict[str, str], body: bytes, peer: Any
) -> None:
    for status in (301, 302, 307, 400, 401, 403, 404, 405, 407, 409, 411, 413, 415, 422, 431, 451):
        peer.script[:] = [(status, headers, body)]
        with pytest.raises(Unreachable, match=str(status)):
            send(peer)


def test_a_redirect_is_named_with_its_target(peer: Any) -> None:
    peer.script[:] = [(301, {"Location": "https://elsewhere.example.org/x"}, b"")]
    with pytest.raises(Unreachable, match=r"301 .*https://elsewhere\.example\.org/x.*no answer of the control plane"):
        send(peer)


@pytest.mark.parametrize("code", sorted(ABOUT_AGENT))
def test_only_heartbeats_decide_what_a_refusal_of_the_agent_means(code: str, peer: Any) -> None:
    peer.script[:] = [(401, PROBLEM, problem(code)), (200, {}, b'{"ok": 3}')]
    with pytest.raises(Refused, match=code):
        send(peer)
    peer.script[:] = [(401, PROBLEM, problem(code)), (200, {}, b'{"ok": 3}')]
    client = Client(peer.url)
    assert client.insist("POST", "/x", understand=lambda answer: answer["ok"], stop=threading.Event()) == 3


@pytest.mark.parametrize("body", [b"<html>Sign in to the hotel's network</html>", b"[]", b"{}", b"\xff", b""])
def test_an_answer_from_something_else_than_the_control_plane_raises_a_retryable_error(body: bytes, peer: Any) -> None:
    peer.script[:] = [(200, {}, body)]
    with pytest.raises(Unreachable, match="does not understand the answer"):
        send(peer)


def test_an_incomplete_answer_raises_a_retryable_error(peer: Any) -> None:
    peer.script[:] = [(200, {"Content-Length": "100"}, b'{"ok": true}')]
    peer.close_quietly = True
    with pytest.raises(Unreachable):
        send(peer)


@pytest.mark.parametrize(
    "body",
    [b'{"jobs": [1]}', b'{"jobs": {"a": []}}', b'{"jobs": [{"job_id": "a", "attempt": 1e999}]}', b"[" * 100_000],
)
def test_an_answer_of_another_form_raises_a_retryable_error(body: bytes, peer: Any) -> None:
    peer.script[:] = [(200, {}, body)]
    with pytest.raises(Unreachable, match="does not understand the answer"):
        Client(peer.url).send("POST", "/x", understand=lambda answer: [int(job["attempt"]) for job in answer["jobs"]])


def test_an_answer_that_comes_byte_by_byte_raises_a_retryable_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "TIMEOUT_SECONDS", 0.5)
    over = threading.Event()

    def dribble(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not over.wait(0.1):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble, args=(listener,), daemon=True)
        thread.start()
        # The whole answer would take 100 s.
        began = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            send(None, Client(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert time.monotonic() - began < 20
        over.set()
        thread.join(20)


def test_after_a_failure_the_other_connections_are_not_tried_one_by_one(
    peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(peer.url)
    # Connections of a network that is gone: they look open, and nothing answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for _ in range(5):
            idle = http.client.HTTPConnection("127.0.0.1", silent.getsockname()[1])
            idle.connect()
            client.addresses.used._idle.append(idle)
        monkeypatch.setattr(address, "TIMEOUT_SECONDS", 0.2)
        with pytest.raises(Unreachable):
            send(peer, client)
        assert send(peer, client)


def test_a_refused_connection_raises_a_retryable_error() -> None:
    with pytest.raises(Unreachable, match="refused"):
        send(None, Client("http://127.0.0.1:1"))


def test_insist_retries_until_an_answer_comes(peer: Any) -> None:
    peer.script[:] = [(500, {}, b""), (429, {}, b""), (200, {}, b'{"ok": 3}')]
    answer = Client(peer.url).insist("POST", "/x", understand=lambda answer: answer["ok"], stop=threading.Event())
    assert (answer, len(peer.seen)) == (3, 3)


def test_insist_ends_when_its_stop_event_is_set(peer: Any) -> None:
    peer.script[:] = [(500, {"Retry-After": "60"}, b"")]
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(GivenUp):
        Client(peer.url).insist("POST", "/x", understand=lambda answer: answer, stop=stop)
    # The next try would come after 60 s.
    assert time.monotonic() - began < 20


def test_retry_pauses_grow_to_a_limit_vary_and_obey_retry_after() -> None:
    backoff = Backoff(limit=8)
    pauses = [backoff.pause(None) for _ in range(10)]
    assert all(0.25 * 2**index <= pause <= 0.5 * 2**index for index, pause in enumerate(pauses[:5]))
    assert all(4 <= pause <= 8 for pause in pauses[5:])
    assert len(set(pauses)) == 10
    assert backoff.pause(30) >= 30
    backoff.reset()
    assert backoff.pause(None) <= 0.5


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org", "https://", "https://a/?x=1", "https://a/#x"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        Client(url)


@pytest.mark.parametrize("text", ["", "../x", "a/b", "-x", ".", "a b", "ä", "a\n", None, 3, "x" * 129])
def test_an_id_that_is_unsafe_in_a_path_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="an id"):
        plain_id(text)
