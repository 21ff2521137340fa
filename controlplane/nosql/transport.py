"""How requests to DynamoDB travel: kept connections and a parser in C, in place of botocore's use of urllib3.

A call to DynamoDB is small and a request of ours makes one or two, so the way is a good part of what they cost (see
docs/decisions/0054). botocore goes on to build, sign, retry and read them; this only sends and receives.
"""

import socket
import ssl
from collections import deque
from collections.abc import Iterator
from typing import Any
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
from httptools import HttpParserError, HttpResponseParser
from urllib3.util import wait_for_read

_PIECE_BYTES = 65536


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
        self._idle: deque[socket.socket] = deque()

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """The answer, read to its end."""
        message = _message(request)
        connection = self._idle_connection() or self._new_connection()
        answer = _Answer()
        try:
            connection.sendall(message)
            while not answer.complete:
                answer.take(connection.recv(_PIECE_BYTES))
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except (OSError, HttpParserError) as error:
            connection.close()
            raise ConnectionClosedError(error=error, request=request, endpoint_url=self._url) from error
        if answer.connection_kept:
            self._idle.append(connection)
        else:
            connection.close()
        return AWSResponse(request.url, answer.status, answer.headers, answer)

    def close(self) -> None:
        """Close the connections that nobody uses just now."""
        while self._idle:
            self._idle.pop().close()

    def _idle_connection(self) -> socket.socket | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # Who has something to say unasked has closed it.
            if not wait_for_read(connection, timeout=0):
                return connection
            connection.close()

    def _new_connection(self) -> socket.socket:
        url = urlsplit(self._url)
        host = url.hostname or ""
        try:
            connection = socket.create_connection(
                (host, url.port or (443 if url.scheme == "https" else 80)), self._connect_timeout
            )
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                # Reading the list of authorities takes longer than a call.
                self._tls = self._tls or ssl.create_default_context(cafile=self._ca_bundle or get_cert_path(True))
                connection = self._tls.wrap_socket(connection, server_hostname=host)
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        connection.settimeout(self._read_timeout)
        return connection


class _Answer:
    """One answer as it comes. The methods ``on_…`` are called by the parser; `stream` is how botocore reads the body.

    It is complete only when its own length, or its last chunk, says so: what merely ends may have been cut off.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.status = 0
        self.connection_kept = False
        self.complete = False

    def take(self, data: bytes) -> None:
        """What has come; nothing is the end. Raises ConnectionError, HttpParserError."""
        if not data:
            raise ConnectionError("the answer broke off")
        self._parser.feed_data(data)

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield from self._pieces

    def on_message_begin(self) -> None:
        if self.complete:
            raise ConnectionError("there is one answer more than questions")
        self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.connection_kept = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        # Below 200 stands what comes before the answer.
        if self.status >= 200:
            self.complete = True
            # Two objects that hold each other would stay until garbage is looked for.
            del self._parser


def _message(request: AWSPreparedRequest) -> bytes:
    """Head and body in one piece: in two, the second waits for the first one's receipt.

    Raises ValueError for a header that could be read as two.
    """
    url = urlsplit(request.url)
    body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
    headers = {
        name: value.decode("latin-1") if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    headers.setdefault("Host", url.netloc)
    headers["Content-Length"] = str(len(body))
    lines = [f"{request.method} {url.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for line in lines:
        if not line.isprintable():
            raise ValueError("a header holds a control character")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
