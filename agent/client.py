"""HTTP to the control plane: connection reuse, signatures, and the one place that decides what is retried."""

from __future__ import annotations

import email.utils
import http.client
import json
import logging
import random
import secrets
import select
import ssl
import threading
from collections.abc import Callable
from typing import Any, Optional, TypeVar
from urllib.parse import urlsplit

from agent import VERSION, clock
from agent.identity import Identity
from agent.signing import signature_headers

logger = logging.getLogger(__name__)

# An answer takes less than this, and two tries fit into a lease of 45 s.
TIMEOUT_SECONDS = 20
# The longest Retry-After that the agent obeys.
RETRY_AFTER_LIMIT_SECONDS = 300
_ANSWER_LIMIT_BYTES = 8 * 1024 * 1024

T = TypeVar("T")


class Refused(Exception):
    """The control plane refused the request, and a retry would not help: any 4xx but 429, and redirects."""

    def __init__(self, status: int, code: str, detail: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{status} {code}: {detail}" if code else f"{status}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors

    def field_messages(self) -> list[str]:
        """One line for each invalid field: its name, its line if there is one, and what is wrong with it."""
        return [_field_message(error) for error in self.errors]


class Unreachable(Exception):
    """No usable answer: the network failed, or the server is busy (429) or broken (5xx). A retry may help.

    `retry_after` is the pause in seconds that the server asked for, or None.
    """

    def __init__(self, reason: str, retry_after: Optional[float] = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


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
        self._host = parts.hostname
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
    ) -> T:
        """Retry the request until an answer comes. Returns what `understand` makes of the answer.

        Raises Refused, or GivenUp if `stop` is set first.
        """
        backoff = Backoff()
        while not stop.is_set():
            try:
                return self.send(method, path, understand=understand, body=body, headers=headers)
            except Unreachable as error:  # noqa: PERF203 — a round trip costs more
                pause = backoff.pause(error.retry_after)
                logger.warning("%s %s failed: %s; the agent tries again in %.1f s", method, path, error, pause)
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
        created: Optional[int] = None,
    ) -> T:
        """Send the request once. `created` is the time of the signature in seconds since 1970, by default now.

        Returns what `understand` makes of the answer. Raises Refused and Unreachable.
        """
        target = self._prefix + path
        sent = {"User-Agent": f"hybrid-ci-agent/{VERSION}", "Accept": "application/json", **(headers or {})}
        if self.identity is not None:
            sent.update(
                signature_headers(
                    method=method,
                    path=target,
                    body=body,
                    key_id=self.identity.key_id,
                    key=self.identity.key,
                    created=clock.epoch() if created is None else created,
                    nonce=secrets.token_urlsafe(18),
                )
            )
        try:
            status, answer_headers, content = self._exchange(method, target, body, sent)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no answer ({error or type(error).__name__})") from error
        return _answer(status, answer_headers, content, understand)

    def _exchange(
        self, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self._take_idle() or self._connect()
        try:
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read(_ANSWER_LIMIT_BYTES)
            if response.length or response.read(1):
                raise http.client.HTTPException("the answer is cut off or too long")
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return response.status, response.headers, content

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
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)


def _answer(
    status: int, headers: http.client.HTTPMessage, content: bytes, understand: Callable[[dict[str, Any]], T]
) -> T:
    """The result that the answer holds. Raises Refused and Unreachable."""
    document = _document(content)
    code, detail = (
        str(document.get("code", "")),
        str(document.get("detail", "")) or http.client.responses.get(status, ""),
    )
    if status == 429 or status >= 500:
        raise Unreachable(f"{status} {detail}".strip(), _retry_after(headers))
    if status >= 300:
        errors = document.get("errors")
        raise Refused(status, code, detail, errors if isinstance(errors, list) else [])
    try:
        return understand(document)
    except (KeyError, TypeError, ValueError) as error:
        # A proxy may have answered instead of the control plane, or its version does not fit this agent.
        raise Unreachable(f"{status}, but the agent does not understand the answer ({error!r})") from error


def _field_message(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    line = f" (line {error['line']})" if error.get("line") else ""
    return f"{error.get('field', '')}{line}: {error.get('message', '')}"


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(headers: http.client.HTTPMessage) -> Optional[float]:
    """The seconds that the Retry-After header asks for, as a number or as a date. None if it is missing or invalid."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    try:
        seconds = float(text) if text.isdigit() else email.utils.parsedate_to_datetime(text).timestamp() - clock.epoch()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_SECONDS)
