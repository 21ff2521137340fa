"""One address of the control plane: the connections to it, and how long a request may take there."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
from functools import partial
from typing import Any, NamedTuple, Optional, Union
from urllib.parse import urlsplit

# An answer takes less than this from its first byte to its last, and two tries fit into a lease of 45 s.
TIMEOUT_SECONDS = 20
_ANSWER_LIMIT_BYTES = 8 * 1024 * 1024


class NoAnswer(Exception):
    """No complete answer came.

    `is_stale` says that the server had closed a connection that earlier requests had used. That says nothing about the
    address: a new connection may work.
    """

    def __init__(self, reason: str, *, is_stale: bool) -> None:
        super().__init__(reason)
        self.is_stale = is_stale


class Response(NamedTuple):
    """A complete answer, from whomever it is."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes


class Address:
    """Exchanges requests for answers at one address. Many threads may share it."""

    def __init__(self, url: str) -> None:
        """`url` may have a path, which is the `prefix` of every request's path.

        Raises ValueError if it is not an http or https address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not an address; give one such as https://ci.example.org")
        self.url = url.rstrip("/")
        self.host = parts.hostname
        self.prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def exchange(
        self, method: str, target: str, *, body: bytes, headers: dict[str, str], within: Optional[float] = None
    ) -> Response:
        """Send one request whose path is `target`, prefix included.

        All of it takes no more than `within` seconds; None: the connection and the answer take 20 s each. Raises
        NoAnswer.
        """
        limit = _Limit(within)
        connection = self._take_idle()
        was_idle = connection is not None
        try:
            if connection is None:
                connection = self._connect(limit.seconds())
            return self._exchange(connection, limit, method, target, body, headers)
        except (OSError, http.client.HTTPException) as error:
            # Python 3.9 has two kinds of timeouts.
            is_late = isinstance(error, (TimeoutError, socket.timeout))
            reason = str(error) or type(error).__name__
            raise NoAnswer(reason, is_stale=was_idle and not is_late) from error

    def close_idle(self) -> None:
        """Close the connections that no request uses at the moment."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        limit: _Limit,
        method: str,
        target: str,
        body: bytes,
        headers: dict[str, str],
    ) -> Response:
        try:
            connection.sock.settimeout(limit.seconds())
            connection.response_class = partial(_Response, limit)  # type: ignore[assignment]
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read(_ANSWER_LIMIT_BYTES)
            if response.length or response.read(1):
                raise http.client.HTTPException("the answer is cut off or too long")
        except BaseException:
            connection.close()
            # When the network has changed, the other connections are most likely dead, too. Each would cost a timeout.
            self.close_idle()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return Response(response.status, response.headers, content)

    def _take_idle(self) -> Optional[http.client.HTTPConnection]:
        """An idle connection that still works. If it is readable before a request, the server has closed it."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        """A new connection, TLS included. Raises OSError, after so many seconds at most."""
        end = time.monotonic() + seconds
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self.host, self._port)
            connection.sock = _connected(self.host, self._port, seconds)
            return connection
        connection = http.client.HTTPSConnection(self.host, self._port, context=self._tls)
        plain = _connected(self.host, self._port, seconds)
        try:
            plain.settimeout(max(0.001, end - time.monotonic()))
            connection.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        return connection


class _Limit:
    """How long the parts of a request may take: all together, or each by itself."""

    def __init__(self, within: Optional[float]) -> None:
        self._end = None if within is None else time.monotonic() + within

    def seconds(self) -> float:
        """The seconds for the part that begins now. Raises TimeoutError if none are left."""
        if self._end is None:
            return TIMEOUT_SECONDS
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def _connected(host: str, port: int, seconds: float) -> socket.socket:
    """A socket that is connected to one of the host's IP addresses, which share the seconds. Raises OSError."""
    end = time.monotonic() + seconds
    failure = OSError("the name has no IP address")
    found = _resolved(host, port, seconds)
    for count, (family, kind, protocol, _, place) in zip(range(len(found), 0, -1), found):
        left = (end - time.monotonic()) / count
        if left <= 0:
            raise TimeoutError("timed out")
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(left)
            connected.connect(place)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise failure


def _resolved(host: str, port: int, seconds: float) -> list[Any]:
    """The host's IP addresses, as getaddrinfo gives them. Raises OSError.

    A resolver whose servers do not answer may take a minute or more. Nothing can interrupt it, so it has a thread of
    its own, which is left alone when the time is up.
    """
    results: list[Union[list[Any], OSError]] = []

    def resolve() -> None:
        try:
            results.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            results.append(error)
        except UnicodeError as error:
            results.append(OSError(f"{host!r} is not a name ({error})"))

    thread = threading.Thread(target=resolve, name=f"resolve {host}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # The machine has too many threads. Heartbeats must go on.
        resolve()
    else:
        thread.join(seconds)
    if not results:
        raise TimeoutError(f"the name {host} was not resolved in time")
    if isinstance(results[0], OSError):
        raise results[0]
    return results[0]


class _Response(http.client.HTTPResponse):
    """A response that must be complete within its limit. The socket's own timeout is about each part of it."""

    def __init__(self, limit: _Limit, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(_Deadline(sock, limit.seconds()), *arguments, **options)  # type: ignore[arg-type]


class _Deadline:
    """In place of a socket, for a response: it is read from `makefile` alone."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A file that raises TimeoutError when the response is not complete in time."""
        return io.BufferedReader(_Reader(self._sock, time.monotonic() + self._seconds))


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        # The connection may close its socket before the response is read; it stays open for this file.
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
