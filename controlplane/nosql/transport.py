"""The HTTP session of botocore's DynamoDB client: persistent connections and a parser in C instead of urllib3.

A request to the API makes one or two small calls to DynamoDB, and urllib3 is a large part of their CPU time. botocore
still builds, retries and parses the calls, and `signing` signs them; this module only sends and receives.
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

_RECEIVE_BYTES = 65536


class Transport:
    """An HTTP session for botocore, for one endpoint that is reached without a proxy. Thread-safe.

    Raises botocore's own exceptions, so that botocore retries as with its own session.
    """

    def __init__(
        self, endpoint_url: str, *, connect_timeout: float, read_timeout: float, ca_bundle: str | None = None
    ) -> None:
        """Times are in seconds. `ca_bundle` is a file of certificate authorities (AWS_CA_BUNDLE)."""
        self._url = endpoint_url
        self._ca_bundle = ca_bundle
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._tls: ssl.SSLContext | None = None
        # A stack: the server is least likely to have closed the connection that was used last.
        self._idle: deque[socket.socket] = deque()

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Send the request and return its complete response.

        Raises ConnectTimeoutError, EndpointConnectionError, SSLError, ReadTimeoutError, ConnectionClosedError.
        """
        message = _message(request)
        connection = self._idle_connection() or self._new_connection()
        response = _Response()
        try:
            connection.sendall(message)
            while not response.complete:
                response.take(connection.recv(_RECEIVE_BYTES))
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except (OSError, HttpParserError) as error:
            connection.close()
            raise ConnectionClosedError(error=error, request=request, endpoint_url=self._url) from error
        if response.connection_kept:
            self._idle.append(connection)
        else:
            connection.close()
        return AWSResponse(request.url, response.status, response.headers, response)

    def close(self) -> None:
        """Close the idle connections, without a TLS close_notify. Connections in use are not affected."""
        while self._idle:
            self._idle.pop().close()

    def _idle_connection(self) -> socket.socket | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # A server that sends something before a request has closed the connection, or is about to.
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
                # Kept, because reading the certificate authorities takes longer than a call.
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


class _Response:
    """One response while it is received. The parser calls the methods ``on_…``; botocore reads the body by `stream`.

    It is complete only at its declared length or its last chunk: one that ends with the connection may be truncated.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.status = 0
        self.connection_kept = False
        self.complete = False

    def take(self, data: bytes) -> None:
        """Parse received bytes; none means that the connection has ended. Raises ConnectionError, HttpParserError."""
        if not data:
            raise ConnectionError("the connection ended before the response did")
        self._parser.feed_data(data)

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield from self._chunks

    def on_message_begin(self) -> None:
        if self.complete:
            raise ConnectionError("the server sent a second response to one request")
        self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.connection_kept = self._parser.should_keep_alive()

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        # A status below 200 is informational; the response follows.
        if self.status >= 200:
            self.complete = True
            # Each refers to the other: without this, only the garbage collector would free them.
            del self._parser


def _message(request: AWSPreparedRequest) -> bytes:
    """Head and body as one buffer: sent in two parts, the body may wait for the acknowledgement of the head.

    Raises ValueError for a header with a control character, which could be read as two headers.
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
            raise ValueError("a header contains a control character")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
