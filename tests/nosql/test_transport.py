"""Connections to DynamoDB: reuse, replacement, time-outs and forks, against a real server that the test scripts."""

import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from urllib3.util import wait_for_read

from controlplane.nosql.transport import Transport, _message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Amzn-RequestId: one\r\n\r\n{}"


@dataclass
class Server:
    """Accepts connections; sends the responses that `script` lists for each, one per request, and then closes it."""

    url: str
    script: list[list[bytes]]
    asked: list[list[bytes]] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)


Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server. Each inner list is one connection's responses; an empty response means that none is sent."""
    listeners: list[socket.socket] = []

    def run(
        *script: list[bytes],
        tls: ssl.SSLContext | None = None,
        after_first: threading.Event | None = None,
        delay: float = 0,
    ) -> Server:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        server = Server(url, list(script))

        def serve() -> None:
            for answers in server.script:
                asked: list[bytes] = []
                server.asked.append(asked)
                try:
                    connection, _ = listener.accept()
                    connection = tls.wrap_socket(connection, server_side=True) if tls else connection
                except OSError:
                    return
                with connection:
                    for answer in answers:
                        asked.append(request_read(connection))
                        if answer:
                            time.sleep(delay)
                            connection.sendall(answer)
                        else:
                            server.closed.wait(10)
                    if after_first and len(server.asked) == 1:
                        after_first.wait(10)
                        connection.sendall(OK)
                        continue
                server.closed.set()

        threading.Thread(target=serve, daemon=True).start()
        return server

    yield run
    for listener in listeners:
        listener.close()


def request_read(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return data
        data += received
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def request(server: Server, body: bytes = b'{"TableName": "t"}') -> AWSPreparedRequest:
    headers = {"X-Amz-Target": "DynamoDB_20120810.GetItem", "User-Agent": b"hybrid-ci-cd"}
    return AWSRequest(method="POST", url=server.url + "/", data=body, headers=headers).prepare()


_made: list[Transport] = []


def transport(server: Server, **options: object) -> Transport:
    _made.append(Transport(server.url, **{"connect_timeout": 10, "read_timeout": 10, **options}))  # type: ignore[arg-type]
    return _made[-1]


@pytest.fixture(autouse=True)
def _connections_closed() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def test_head_and_body_are_sent_and_received_completely(start: Start) -> None:
    server = start([OK])
    answer = transport(server).send(request(server, b"x" * 300_000))
    assert (answer.status_code, answer.content, answer.headers["x-amzn-requestid"]) == (200, b"{}", "one")
    head, body = server.asked[0][0].split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"\r\nX-Amz-Target: DynamoDB_20120810.GetItem" in head
    assert b"\r\nUser-Agent: hybrid-ci-cd" in head
    assert f"\r\nHost: {server.url.removeprefix('http://')}".encode() in head
    assert body == b"x" * 300_000


def test_a_connection_is_reused(start: Start) -> None:
    server = start([OK, OK, OK])
    way = transport(server)
    assert [way.send(request(server)).status_code for _ in range(3)] == [200, 200, 200]
    assert [len(asked) for asked in server.asked] == [3]


def test_an_idle_connection_that_the_server_closed_is_replaced(start: Start) -> None:
    server = start([OK], [OK])
    way = transport(server)
    way.send(request(server))
    assert server.closed.wait(5)
    assert way.send(request(server)).status_code == 200


def test_a_connection_that_the_server_will_close_is_not_reused(start: Start) -> None:
    server = start([OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], [OK])
    way = transport(server)
    assert [way.send(request(server)).content for _ in range(2)] == [b"{}", b"{}"]
    assert len(server.asked) == 2


def test_a_body_in_chunks_is_read(start: Start) -> None:
    server = start(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nTrailer: x\r\n\r\n"]
    )
    assert transport(server).send(request(server)).content == b"{}"


def test_a_response_without_a_body_is_complete(start: Start) -> None:
    server = start([b"HTTP/1.1 204 No Content\r\n\r\n", OK])
    way = transport(server)
    assert [way.send(request(server)).status_code for _ in range(2)] == [204, 200]
    assert len(server.asked) == 1


def test_a_second_response_to_one_request_is_discarded(start: Start) -> None:
    server = start([OK + OK], [OK])
    way = transport(server)
    with pytest.raises(ConnectionClosedError):
        way.send(request(server))
    assert way.send(request(server)).content == b"{}"


# The connection would answer the next request with the rest of this one's answer.
@pytest.mark.parametrize("surplus", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"{}"])
def test_a_response_with_surplus_bytes_is_discarded_with_its_connection(start: Start, surplus: bytes) -> None:
    server = start([OK + surplus], [OK])
    way = transport(server)
    with pytest.raises(ConnectionClosedError):
        way.send(request(server))
    assert not way._idle
    assert way.send(request(server)).content == b"{}"


def test_a_response_that_nothing_asked_for_is_never_the_answer_to_a_later_request(start: Start) -> None:
    surplus = threading.Event()
    server = start([OK], [OK.replace(b"{}", b"[]")], after_first=surplus)
    way = transport(server)
    assert way.send(request(server)).content == b"{}"
    surplus.set()
    assert wait_for_read(way._idle[0], timeout=5)
    assert way.send(request(server)).content == b"[]"


def test_a_large_response_is_received_completely(start: Start) -> None:
    body = b"x" * 16_000_000
    server = start([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, OK])
    way = transport(server, read_timeout=5)
    assert way.send(request(server)).content == body
    assert way.send(request(server)).content == b"{}"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [b"100 Continue", b"199 X"])
def test_an_informational_response_is_skipped(start: Start, status: bytes) -> None:
    server = start([b"HTTP/1.1 " + status + b"\r\nX-Early: yes\r\n\r\n" + OK])
    answer = transport(server).send(request(server))
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert "X-Early" not in answer.headers


# A response truncated in its head, or in a body without a declared length, would otherwise look empty or short.
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 29",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 O",
        b"SSH-2.0-x y\r\n",
        b"x\n",
    ],
)
def test_a_truncated_or_invalid_response_is_a_closed_connection(start: Start, answer: bytes) -> None:
    server = start([answer])
    with pytest.raises(ConnectionClosedError):
        transport(server).send(request(server))


def test_no_response_is_a_time_out_and_a_late_response_is_discarded(start: Start) -> None:
    server = start([b""], [OK])
    way = transport(server, read_timeout=0.3)
    with pytest.raises(ReadTimeoutError):
        way.send(request(server))
    way._read_timeout = 10
    server.closed.set()
    assert way.send(request(server)).content == b"{}"


def test_an_answer_may_take_longer_than_a_connection(start: Start) -> None:
    server = start([OK], delay=0.8)
    assert transport(server, connect_timeout=0.5, read_timeout=10).send(request(server)).content == b"{}"


def test_an_answer_may_not_take_longer_than_its_own_limit(start: Start) -> None:
    server = start([b""])
    way = transport(server, connect_timeout=60, read_timeout=0.3)
    # With the limit of the connection, the server would close it before.
    with pytest.raises(ReadTimeoutError):
        way.send(request(server))
    assert not way._idle
    server.closed.set()


def test_a_body_that_stops_half_way_is_a_time_out(start: Start) -> None:
    server = start([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b""], [OK])
    way = transport(server, read_timeout=0.3)
    with pytest.raises(ReadTimeoutError):
        way.send(request(server))
    way._read_timeout = 10
    server.closed.set()
    assert way.send(request(server)).content == b"{}"


class Echo(BaseHTTPRequestHandler):
    """Responds with the request's body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not worth a line in the tests' output."""


class PatientServer(ThreadingHTTPServer):
    """All threads connect at once, and a client that finds the queue full waits a second before it tries again."""

    request_queue_size = 64


def test_each_thread_gets_the_response_to_its_own_request() -> None:
    with PatientServer(("127.0.0.1", 0), Echo) as listener, ThreadPoolExecutor(8) as pool:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        server = Server(f"http://127.0.0.1:{listener.server_port}", [])
        way = transport(server, connect_timeout=10, read_timeout=10)
        questions = [b"%d" % number for number in range(400)]
        answers = list(pool.map(lambda question: way.send(request(server, question)).content, questions))
        way.close()
        listener.shutdown()
    assert answers == questions


def test_a_header_cannot_inject_another_header(start: Start) -> None:
    server = start([OK])
    forged = request(server)
    forged.headers["X-Amz-Security-Token"] = "token\r\nX-Amz-Target: DynamoDB_20120810.DeleteTable"
    with pytest.raises(ValueError, match="control character"):
        transport(server).send(forged)


def test_a_request_has_one_length_and_the_host_that_it_names() -> None:
    forged = AWSRequest(
        method="POST", url="http://dynamodb.example:8000", data="é", headers={"Host": "other", "Content-Length": "99"}
    ).prepare()
    forged.body = "é"
    head, body = _message(forged).split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"POST / HTTP/1.1", b"Host: other", b"Content-Length: 2"]
    assert body == "é".encode()
    forged.body = None
    assert _message(forged).endswith(b"Content-Length: 0\r\n\r\n")
    del forged.headers["Host"]
    forged.url = "http://dynamodb.example:8000/path"
    assert _message(forged).startswith(b"POST /path HTTP/1.1\r\n")
    assert b"Host: dynamodb.example:8000\r\n" in _message(forged)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://dynamodb.example", ("dynamodb.example", 443)),
        ("http://dynamodb.example", ("dynamodb.example", 80)),
        ("http://dynamodb.example:8000", ("dynamodb.example", 8000)),
    ],
)
def test_an_endpoint_without_a_port_has_the_one_of_its_scheme(
    monkeypatch: pytest.MonkeyPatch, url: str, address: tuple[str, int]
) -> None:
    asked: list[object] = []

    def refuse(*given: object) -> None:
        asked.extend(given)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(EndpointConnectionError):
        Transport(url, connect_timeout=3, read_timeout=4)._new_connection()
    assert asked == [address, 3]


def test_connections_send_at_once_and_the_one_used_last_is_used_first(start: Start) -> None:
    server = start([OK], [OK])
    way = transport(server)
    first, second = way._new_connection(), way._new_connection()
    assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    assert first.gettimeout() == 10
    way._idle.extend([first, second])
    assert way._idle_connection() is second
    way.close()
    assert first.fileno() == -1
    assert way._idle_connection() is None
    second.close()


def test_a_port_without_a_server_is_a_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    server = Server(url, [])
    with pytest.raises(EndpointConnectionError):
        transport(server).send(request(server))


def test_a_server_that_does_not_accept_in_time_is_a_connect_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # The queue is full, so the kernel does not complete further handshakes.
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        server = Server(f"http://127.0.0.1:{address[1]}", [])
        with pytest.raises(ConnectTimeoutError):
            transport(server, connect_timeout=0.3).send(request(server))
        for sock in waiting:
            sock.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a self-signed certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 — certificates know no other clock
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_tls_accepts_only_a_server_with_a_trusted_certificate(start: Start, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    known = start([OK, OK], tls=context)
    way = transport(known, ca_bundle=str(certificate))
    assert [way.send(request(known)).content for _ in range(2)] == [b"{}", b"{}"]
    unknown = start([OK], tls=context)
    with pytest.raises(SSLError):
        transport(unknown).send(request(unknown))


def test_the_certificate_authorities_are_read_once_and_are_botocores_own(
    start: Start, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    close = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    known = start([close], [close], tls=context)
    asked: list[str] = []
    create = ssl.create_default_context

    def created(*, cafile: str) -> ssl.SSLContext:
        asked.append(cafile)
        return create(cafile=str(certificate))

    monkeypatch.setattr(ssl, "create_default_context", created)
    way = transport(known)
    assert [way.send(request(known)).content for _ in range(2)] == [b"{}", b"{}"]
    assert asked == [get_cert_path(True)]


def test_a_server_that_does_not_speak_tls_in_time_is_a_connect_time_out(start: Start) -> None:
    server = start([b""])
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(ConnectTimeoutError):
        transport(server, connect_timeout=0.3, read_timeout=30).send(request(server))
    server.closed.set()


# Connects, forks, and sends requests from both processes at the same time. Prints the responses of each.
FORKING = """
import json, multiprocessing
from controlplane.nosql.connection import shared_connection

def answered(name):
    key = {"name": {"S": name}}
    return shared_connection()._make_api_call("GetItem", {"TableName": "t", "Key": key})["Item"]["name"]["S"]

def answers(process):
    both_ready.wait(10)
    return [answered(f"{process} {number}") for number in range(50)]

fork = multiprocessing.get_context("fork")
both_ready = fork.Barrier(2)
first = answered("parent first")
received, sent = fork.Pipe(duplex=False)
child = fork.Process(target=lambda: sent.send(answers("child")))
child.start()
printed = {"parent": [first, *answers("parent")], "child": received.recv()}
child.join()
print(json.dumps(printed))
"""


class Items(Echo):
    """Responds to GetItem with an item that consists of its key, and records which connection sent which key."""

    asked: dict[int, list[str]]

    def do_POST(self) -> None:
        key = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["Key"]
        self.asked[self.client_address[1]].append(key["name"]["S"])
        body = json.dumps({"Item": key}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# Behind a proxy, botocore's own session sends.
@pytest.mark.parametrize("way", ["plain", "TLS", "proxy"])
def test_a_forked_process_opens_its_own_connection_and_its_parent_keeps_its_own(way: str, certificate: Path) -> None:
    asked: dict[int, list[str]] = defaultdict(list)
    with PatientServer(("127.0.0.1", 0), type("Recorder", (Items,), {"asked": asked})) as listener:
        if way == "TLS":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        url = f"http{'s' if way == 'TLS' else ''}://127.0.0.1:{listener.server_port}"
        reached = {"AWS_ENDPOINT_URL": url, "AWS_CA_BUNDLE": str(certificate), "NO_PROXY": "127.0.0.1"}
        if way == "proxy":
            reached = {"AWS_ENDPOINT_URL": "http://dynamodb.invalid", "HTTP_PROXY": url, "NO_PROXY": ""}
        done = subprocess.run(
            [sys.executable, "-c", FORKING],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", **reached},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        listener.shutdown()
    assert done.returncode == 0, done.stderr
    parent = ["parent first", *(f"parent {number}" for number in range(50))]
    child = [f"child {number}" for number in range(50)]
    assert json.loads(done.stdout) == {"parent": parent, "child": child}
    # A TLS close_notify from the child would have closed the parent's connection, and there would be three.
    assert list(asked.values()) == [parent, child]
