"""A receiver of webhooks over TLS on this machine, with a certificate of its own authority."""

import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane.lib import clock


@dataclass
class Received:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Where the receiver listens, what it got, and what it answers: the status and headers for each request.

    None closes the connection without an answer. `pause` are the seconds before each byte of an answer.
    """

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answer: Callable[[Received], tuple[int, dict[str, str]] | None] = lambda _request: (204, {})
    pause: float = 0
    # The body of each answer.
    content: bytes = b""


@contextmanager
def receiver(folder: Path, *, host: str = "localhost") -> Iterator[tuple[Receiver, Path]]:
    """A receiver, and the file with the certificate by which it is trusted (SSL_CERT_FILE)."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            found.requests.append(request)
            answer = found.answer(request)
            if answer is None:
                self.close_connection = True
                return
            if found.pause:
                self.drip()
                return
            status, headers = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(found.content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.content)

        def drip(self) -> None:
            with suppress(OSError):
                for byte in b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n":
                    time.sleep(found.pause)
                    self.wfile.write(bytes([byte]))

        def log_message(self, *args: object) -> None:
            """Requests are not worth a line in the tests' output."""

    certificate, key = _certificate(folder, host)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    found.url = f"https://{host}:{server.server_address[1]}"
    yield found, certificate
    server.shutdown()
    server.server_close()
    thread.join()


def _certificate(folder: Path, host: str) -> tuple[Path, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver of the tests")])
    names: list[x509.GeneralName] = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = clock.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "receiver.pem", folder / "receiver-key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files
