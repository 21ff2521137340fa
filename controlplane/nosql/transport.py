"""How requests to DynamoDB travel: kept connections and no more, in place of botocore's use of urllib3.

A call to DynamoDB is small and there are several in a request, so the way is a third of what they cost (see
docs/decisions/0054). botocore goes on to build, sign, retry and read them; this only sends and receives.
"""

import select
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path

# Longer lines are nothing that DynamoDB says.
_LONGEST_LINE = 65536


class Transport:
    """What botocore calls an HTTP session, for one endpoint that is reached without a proxy. For any number of threads.

    Raises botocore's own exceptions, so that botocore retries as ever.
    """

    def __init__(
        self, endpoint_url: str, *, connect_timeout: float, read_timeout: float, ca_bundle: str | None = None
    ) -> None:
        """Times are in seconds. `ca_bundle` is a file of authorities (AWS_CA_BUNDLE) in place of botocore's own."""
        self._url = endpoint_url
        self._ca_bundle = ca_bundle
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._tls: ssl.SSLContext | None = None
        # The one that was used last is the least likely to be closed by the other side.
        self._idle: deque[_Connection] = deque()

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """The answer, read to its end."""
        connection = self._idle_connection() or self._new_connection()
        try:
            status, headers, content = connection.ask(_message(request))
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except (OSError, ValueError) as error:
            connection.close()
            raise ConnectionClosedError(error=error, request=request, endpoint_url=self._url) from error
        if headers.get("connection", "").lower() == "close":
            connection.close()
        else:
            self._idle.append(connection)
        return AWSResponse(request.url, status, headers, _Content(content))

    def close(self) -> None:
        """Close the connections that nobody uses just now."""
        while self._idle:
            self._idle.pop().close()

    def _idle_connection(self) -> "_Connection | None":
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not connection.readable():
                return connection
            # Who has something to say unasked has closed it.
            connection.close()

    def _new_connection(self) -> "_Connection":
        url = urlsplit(self._url)
        host = url.hostname or ""
        try:
            sock = socket.create_connection(
                (host, url.port or (443 if url.scheme == "https" else 80)), self._connect_timeout
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                # Reading the list of authorities takes longer than a call.
                self._tls = self._tls or ssl.create_default_context(cafile=self._ca_bundle or get_cert_path(True))
                sock = self._tls.wrap_socket(sock, server_hostname=host)
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        sock.settimeout(self._read_timeout)
        return _Connection(sock)


class _Connection:
    """One connection, on which answers follow questions."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file: BinaryIO = sock.makefile("rb")
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def ask(self, message: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by their names in small letters, and body.

        Raises OSError, or ValueError for what is no HTTP.
        """
        self._sock.sendall(message)
        version, status, *_ = self._line().split(" ", 2)
        if not version.startswith("HTTP/1."):
            raise ValueError(f"the answer begins with {version[:20]!r}")
        headers = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(status), headers, self._body(headers)

    def readable(self) -> bool:
        """Whether something has come, be it the end."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return b"".join(self._chunks())
        return (
            self._exactly(int(headers["content-length"])) if "content-length" in headers else self._to_the_end(headers)
        )

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(";")[0], 16):
            yield self._exactly(size)
            self._line()
        # After the last one come headers, of which there are none of use.
        while self._line():
            pass

    def _to_the_end(self, headers: dict[str, str]) -> bytes:
        headers["connection"] = "close"
        return self._file.read()

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the answer broke off")
        return data

    def _line(self) -> str:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionError("the answer broke off")
        return line.decode("latin-1").rstrip("\r\n")


class _Content:
    """A body that is read already, as botocore wants to read it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._content


def _message(request: AWSPreparedRequest) -> bytes:
    """Head and body in one piece: in two, the second waits for the first one's receipt."""
    url = urlsplit(request.url)
    body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
    headers = {
        name: value.decode("latin-1") if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    headers.setdefault("Host", url.netloc)
    headers["Content-Length"] = str(len(body))
    lines = [f"{request.method} {url.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
