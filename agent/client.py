"""HTTP to the control plane: connection reuse, signatures, and the one place that decides what is retried."""

from __future__ import annotations

import http.client
import io
import json
import logging
import random
import secrets
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Optional, TypeVar
from urllib.parse import urlsplit

from agent import VERSION, clock
from agent.identity import Identity
from agent.refusals import ABOUT_AGENT, ABOUT_REQUEST, MEDIA_TYPE, SIGNATURE_EXPIRED
from agent.signing import signature_headers

logger = logging.getLogger(__name__)

# An answer takes less than this from its first byte to its last, and two tries fit into a lease of 45 s.
TIMEOUT_SECONDS = 20
# The longest Retry-After that the agent obeys.
RETRY_AFTER_LIMIT_SECONDS = 300
# The signature does not count for the moment, or the server is busy.
_TEMPORARY = (401, 408, 429)
_ANSWER_LIMIT_BYTES = 8 * 1024 * 1024

T = TypeVar("T")


class Refused(Exception):
    """The control plane itself refused the request: `code` is one of `agent.refusals`."""

    def __init__(self, status: int, code: str, detail: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors

    def field_messages(self) -> list[str]:
        """One line for each invalid field: its name, its line if there is one, and what is wrong with it."""
        return [_field_message(error) for error in self.errors]


class Unreachable(Exception):
    """No usable answer: a retry may help.

    The network failed, the server is busy (429) or broken (5xx), or something else than the control plane answered.

    `retry_after` is the pause in seconds that the server asked for, or None. `code` is the control plane's error code,
    or empty if it did not answer. `status` is that of the answer, 0 if there was none.
    """

    def __init__(self, reason: str, retry_after: Optional[float] = None, code: str = "", status: int = 0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.code = code
        self.status = status


class GivenUp(Exception):
    """The caller set its `stop` event before an answer came."""


class Backoff:
    """Pauses between retries: they double from half a second to `limit` seconds, each cut at random by up to a half."""

    def __init__(self, limit: float = 15.0) -> None:
        self._limit = limit
        self._failures = 0

    def pause(self, retry_after: Optional[float]) -> float:
        """The seconds to wait after one more failure, never less than `retry_after`."""
        pause = min(self._limit, 0.5 * 2 ** min(self._failures, 10))
        self._failures += 1
        jittered: float = pause * random.uniform(0.5, 1.0)  # noqa: S311 — jitter, no secret
        return jittered if retry_after is None else retry_after + jittered

    def reset(self) -> None:
        """Start again with the shortest pause, since an answer came."""
        self._failures = 0


class Client:
    """Sends requests and signs them once `identity` is set. Many threads may share one client."""

    def __init__(self, url: str) -> None:
        """`url` is the control plane's address; its path, if any, is a prefix of every request's path.

        Raises ValueError if it is not an http or https address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not an address; give one such as https://ci.example.org")
        self.url = url.rstrip("/")
        self.identity: Optional[Identity] = None
        self._secure = parts.scheme == "https"
        self.host = parts.hostname
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if self._secure else None
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def insist(
        self,
        method: str,
        path: str,
        *,
        understand: Callable[[dict[str, Any]], T],
        stop: threading.Event,
        body: bytes = b"",
        headers: Optional[dict[str, str]] = None,
        fresh: Callable[[], dict[str, str]] = dict,
        accepts_any_code: bool = False,
    ) -> T:
        """Retry the request until an answer comes. Returns what `understand` makes of the answer.

        `fresh` gives headers that differ with each try. With `accepts_any_code`, an error code that this agent does not
        know counts as a refusal, too: a job must not wait for ever for what it can do without. A refusal of the agent
        as a whole is retried: heartbeats decide what follows from it. Raises Refused if the control plane refuses this
        request, or GivenUp if `stop` is set first.
        """
        backoff = Backoff()
        while not stop.is_set():
            failure: Exception
            retry_after = None
            try:
                sent = {**(headers or {}), **fresh()}
                return self.send(method, path, understand=understand, body=body, headers=sent)
            except Unreachable as error:
                if accepts_any_code and error.code and 400 <= error.status < 500 and error.status not in _TEMPORARY:
                    raise Refused(error.status, error.code, str(error), []) from error
                failure, retry_after = error, error.retry_after
            except Refused as error:
                if error.code not in ABOUT_AGENT:
                    raise
                failure = error
            pause = backoff.pause(retry_after)
            logger.warning("%s %s failed: %s; the agent tries again in %.1f s", method, path, failure, pause)
            stop.wait(pause)
        raise GivenUp

    def send(
        self,
        method: str,
        path: str,
        *,
        understand: Callable[[dict[str, Any]], T],
        body: bytes = b"",
        headers: Optional[dict[str, str]] = None,
        created: Callable[[], int] = clock.epoch,
    ) -> T:
        """Send the request once. `created` gives the time of the signature in seconds since 1970.

        If that time is too far from the control plane's, the request is sent once more with the time of its Date
        header, which this process then goes by. Returns what `understand` makes of the answer. Raises Refused and
        Unreachable.
        """
        answer = self._send(method, path, body=body, headers=headers or {}, created=created)
        if answer.code == SIGNATURE_EXPIRED:
            before, corrected = clock.offset(), clock.offset_by_date(answer.headers.get("Date"))
            if corrected is not None:
                clock.set_offset(corrected)
                answer = self._send(method, path, body=body, headers=headers or {}, created=created)
                if answer.code == SIGNATURE_EXPIRED:
                    # That was not the time that the control plane goes by.
                    clock.set_offset(before)
                elif abs(corrected - before) >= clock.AGREE_SECONDS:
                    _log_clock(corrected)
        return answer.result(understand)

    def _send(
        self, method: str, path: str, *, body: bytes, headers: dict[str, str], created: Callable[[], int]
    ) -> _Answer:
        target = self._prefix + path
        sent = {"User-Agent": f"hybrid-ci-agent/{VERSION}", "Accept": "application/json", **headers}
        if self.identity is not None:
            sent.update(
                signature_headers(
                    method=method,
                    path=target,
                    body=body,
                    key_id=self.identity.key_id,
                    key=self.identity.key,
                    created=created(),
                    nonce=secrets.token_urlsafe(18),
                )
            )
        try:
            return self._exchange(method, target, body, sent)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no answer ({error or type(error).__name__})") from error

    def _exchange(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> _Answer:
        connection = self._take_idle() or self._connect()
        try:
            if connection.sock is not None:
                connection.sock.settimeout(TIMEOUT_SECONDS)
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read(_ANSWER_LIMIT_BYTES)
            if response.length or response.read(1):
                raise http.client.HTTPException("the answer is cut off or too long")
        except BaseException:
            connection.close()
            # When the network has changed, the other connections are most likely dead, too. Each would cost a timeout.
            self._close_idle()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return _Answer(response.status, response.headers, content)

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

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

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self.host, self._port, timeout=TIMEOUT_SECONDS, context=self._tls)
        else:
            connection = http.client.HTTPConnection(self.host, self._port, timeout=TIMEOUT_SECONDS)
        connection.response_class = _Response
        return connection


class _Response(http.client.HTTPResponse):
    """A response that must be complete within the timeout. The socket's own timeout is about each part of it."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(_Deadline(sock), *arguments, **options)  # type: ignore[arg-type]


class _Deadline:
    """In place of a socket, for a response: it is read from `makefile` alone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A file that raises TimeoutError when the response is not complete in time."""
        return io.BufferedReader(_Reader(self._sock, time.monotonic() + TIMEOUT_SECONDS))


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


class _Answer:
    """A complete answer. `code` is an error code of the control plane, or empty."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self._document = _document(content)
        is_problem = status >= 400 and headers.get_content_type() == MEDIA_TYPE
        self.code = str(self._document.get("code", "")) if is_problem else ""

    def result(self, understand: Callable[[dict[str, Any]], T]) -> T:
        """What `understand` makes of the answer. Raises Refused and Unreachable."""
        if self.status >= 300:
            raise self._error()
        try:
            return understand(self._document)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            # A proxy may have answered instead of the control plane, or its version does not fit this agent.
            raise Unreachable(f"{self.status}, but the agent does not understand the answer ({error!r})") from error

    def _error(self) -> Exception:
        detail = str(self._document.get("detail", "")) or http.client.responses.get(self.status, "")
        if self.status in range(400, 500) and self.code in ABOUT_REQUEST | ABOUT_AGENT:
            errors = self._document.get("errors")
            return Refused(self.status, self.code, detail, errors if isinstance(errors, list) else [])
        reason = f"{self.status} {detail}".strip()
        if self.status < 500 and not self.code:
            to = f" to {self.headers['Location'][:200]!r}" if self.headers.get("Location") else ""
            reason += f"{to}: that is no answer of the control plane; check what is between it and this machine"
        return Unreachable(reason, _retry_after(self.headers), self.code, self.status)


def _log_clock(offset: int) -> None:
    if offset == 0:
        logger.info("this machine's clock agrees with that of the control plane again")
    else:
        logger.warning(
            "this machine's clock is %d s %s that of the control plane; the agent goes by the control plane's from now "
            "on. Set this machine's clock",
            abs(offset),
            "behind" if offset > 0 else "ahead of",
        )


def _field_message(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    line = f" (line {error['line']})" if error.get("line") else ""
    return f"{error.get('field', '')}{line}: {error.get('message', '')}"


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(headers: http.client.HTTPMessage) -> Optional[float]:
    """The seconds that the Retry-After header asks for, as a number or as a date. None if it is missing or invalid."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return min(float(text), RETRY_AFTER_LIMIT_SECONDS)
    moment = clock.epoch_of_date(text)
    return None if moment is None else min(max(moment - clock.epoch(), 0.0), RETRY_AFTER_LIMIT_SECONDS)
