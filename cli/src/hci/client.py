"""Asks the control plane over HTTP: bounded retries, bounded answers, and errors in sentences."""

from __future__ import annotations

import json
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from hci import __version__
from hci.endpoints import Endpoint
from hci.errors import BadAnswer, Exit, HciError, Unreachable, UsageProblem
from hci.text import plain

Json = dict[str, Any]

# The most bytes of an answer that are kept in memory. A log's part with times is the largest that the API gives.
_ANSWER_BYTES = 64 * 1024 * 1024
# How long a request is repeated, in seconds; while a user follows a log, longer.
PATIENCE = 20.0
SILENCE = 4.0
_LONGEST_WAIT = 30.0
_AGAIN = frozenset([429, 502, 503, 504])
_PAGE_LIMIT = 100


class ApiError(HciError):
    """The control plane has answered with a problem. `code` is its own name for it."""

    def __init__(self, message: str, *, status: int, code: str, hints: tuple[str, ...] = ()) -> None:
        super().__init__(message, hints=hints)
        self.status = status
        self.code = code
        self.exit_code = _exit_code(status)


def _exit_code(status: int) -> int:
    if status >= 500 or status in (408, 429):
        return Exit.UNREACHABLE
    if status in (404, 410):
        return Exit.NOT_FOUND
    return Exit.USAGE if status in (400, 413, 414, 415, 422) else Exit.REFUSED


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Json:
        """The body, which must be a JSON object. Raises BadAnswer."""
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise BadAnswer("The answer is not JSON. Is this the address of the control plane?")
        return found

    def number(self, header: str) -> int:
        """A header that must be a number. Raises BadAnswer."""
        text = self.headers.get(header, "")
        if not re.fullmatch("[0-9]{1,18}", text):
            raise BadAnswer(f"The answer has no {header}. Is this the address of the control plane?")
        return int(text)


def members(document: Mapping[str, Any], name: str) -> list[Json]:
    """A list of objects in an answer. Raises BadAnswer."""
    found = document.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadAnswer(f"The answer has no list “{name}”. Is this the address of the control plane?")
    return found


def text(document: Mapping[str, Any], name: str) -> str:
    """A text in an answer. Raises BadAnswer."""
    found = document.get(name)
    if not isinstance(found, str):
        raise BadAnswer(f"The answer has no “{name}”. Is this the address of the control plane?")
    return found


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that are trusted. To read them takes longer than most requests, so once is enough."""
    return httpx.create_ssl_context()


@contextmanager
def expected_form() -> Iterator[None]:
    """What is read of an answer here has the form that the API document names. Raises BadAnswer if it has not."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadAnswer("The answer has an unknown form. Is hci as new as the control plane?") from error


class Client:
    """One control plane, with the token of one user or none."""

    def __init__(
        self,
        server: str,
        token: str | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self.token = token
        # For how many seconds a request is repeated: if the answer is to come later, and if there is none.
        self.patience = PATIENCE
        self.silence = SILENCE
        self._http = httpx.Client(
            timeout=httpx.Timeout(30.0, connect=10.0),
            headers={"User-Agent": f"hci/{__version__}", "Accept": "application/json"},
            follow_redirects=False,
            verify=_trusted(),
        )

    def close(self) -> None:
        self._http.close()

    def follow(self, seconds: float) -> None:
        """Repeat each request for so long: a run outlives an update of the control plane."""
        self.patience = self.silence = seconds

    def call(
        self,
        endpoint: Endpoint,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        redirects: bool = False,
        **path: str,
    ) -> Answer:
        """Ask, and again if that is safe: a GET, or a POST with an Idempotency-Key, which this adds where it can be.

        Values of None are left out of the query. A redirect is an answer with `redirects`, and else an error; none is
        followed. Raises HciError.
        """
        asked = {name: _parameter(value) for name, value in (query or {}).items() if value is not None}
        if not (set(asked) <= set(endpoint.query) and set(body or {}) <= set(endpoint.body)):
            raise ValueError(f"{endpoint} does not know {asked} {body and list(body)}")
        headers = {"Idempotency-Key": uuid4().hex} if "Idempotency-Key" in endpoint.headers else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = self._http.build_request(
            endpoint.method,
            self.server + _filled(endpoint.path, path),
            params=asked or None,
            json=body,
            headers=headers,
        )
        safe = endpoint.method == "GET" or endpoint.reads or "Idempotency-Key" in headers
        return _accepted(self._answered(request, again=safe), self.server, redirects=redirects)

    def json(self, endpoint: Endpoint, **arguments: Any) -> Json:
        """As `call`, for the JSON object in the answer."""
        return self.call(endpoint, **arguments).json()

    def pages(
        self, endpoint: Endpoint, name: str, *, limit: int | None, query: Mapping[str, Any] | None = None, **path: str
    ) -> Json:
        """All pages of a list as one, or its first `limit` entries: the members `name` and `next_cursor`."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            wanted = _PAGE_LIMIT if limit is None else min(_PAGE_LIMIT, limit - len(found))
            page = self.json(endpoint, query={**(query or {}), "limit": wanted, "cursor": cursor}, **path)
            found += members(page, name)[:wanted]
            following = page.get("next_cursor")
            if following is not None and (not isinstance(following, str) or following == cursor):
                raise BadAnswer("The list does not end: its next page is the same one.")
            cursor = following
            if not cursor or (limit is not None and len(found) >= limit):
                return {**page, name: found, "next_cursor": cursor}

    @contextmanager
    def stream(self, url: str, *, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """A download from an address that the control plane has named. It gets no token. Raises HciError."""
        try:
            with self._http.stream("GET", url, headers={**headers, "Accept": "*/*"}) as response:
                yield response
        except httpx.HTTPError as error:
            raise Unreachable(f"The download was cut off: {_reason(error)}.") from error
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise BadAnswer("The control plane names no valid address for the download.") from error

    def _answered(self, request: httpx.Request, *, again: bool) -> Answer:
        """The answer to the request, which is repeated while there is patience. Raises BadAnswer and Unreachable."""
        began = time.monotonic()
        wait = 0.5
        while True:
            try:
                answer: Answer | None = self._send(request)
                error: HciError | None = None
            except Unreachable as found:
                answer, error = None, found
            if answer is not None and answer.status not in _AGAIN:
                return answer
            pause = _pause(answer, wait)
            if not again or time.monotonic() + pause > began + (self.patience if answer else self.silence):
                if answer is not None:
                    return answer
                raise error or Unreachable("There is no answer.")
            time.sleep(pause)
            wait = min(2 * wait, 8.0)

    def _send(self, request: httpx.Request) -> Answer:
        try:
            response = self._http.send(request, stream=True)
            try:
                content = _content(response)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.server} cannot be reached: {_reason(error)}.") from error
        return Answer(response.status_code, response.headers, content)


def _content(response: httpx.Response) -> bytes:
    """The body. Raises BadAnswer if it is longer than any that the control plane gives."""
    content = bytearray()
    for block in response.iter_bytes():
        content += block
        if len(content) > _ANSWER_BYTES:
            raise BadAnswer("The answer is too long. Is this the address of the control plane?")
    return bytes(content)


def _pause(answer: Answer | None, wait: float) -> float:
    """How long to wait before the next try, in seconds: what the server asks for, or `wait` with some scatter."""
    asked = answer.headers.get("Retry-After", "") if answer is not None else ""
    if re.fullmatch("[0-9]{1,6}", asked):
        return float(asked) if float(asked) > _LONGEST_WAIT else max(float(asked), 0.1)
    return wait * random.uniform(0.7, 1.3)  # noqa: S311 — scatters, and keeps nothing secret


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    return plain(error).rstrip(".")[:300] or type(error).__name__


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _filled(path: str, values: Mapping[str, str]) -> str:
    """The path with its parameters. Raises UsageProblem for a value that would be another path."""
    for value in values.values():
        if value in ("", ".", ".."):
            raise UsageProblem(f"“{value}” is no name.")
    return path.format(**{name: quote(value, safe="") for name, value in values.items()})


def _accepted(answer: Answer, server: str, *, redirects: bool) -> Answer:
    """The answer, if it is no error. Raises HciError."""
    if answer.status < 300 or (redirects and answer.status == 302 and answer.headers.get("Location")):
        return answer
    if answer.status < 400:
        target = plain(answer.headers.get("Location", "another address"))[:300]
        raise BadAnswer(f"{server} redirects to {target}. Log in with the address of the control plane itself.")
    raise _problem(answer, server)


def _problem(answer: Answer, server: str) -> HciError:
    """The problem details of an error (RFC 9457) as sentences."""
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        found = None
    body = found if isinstance(found, dict) else {}
    detail, faults, hints = body.get("detail"), _faults(body), _hints(answer, body)
    mistakes = [_field(one) for one in faults]
    if not isinstance(detail, str):
        return BadAnswer(
            f"{server} answers with the status {answer.status} and no explanation.", hints=(*mistakes, *hints)
        )
    message = plain(detail)
    if faults and _is_detail(faults[0], detail):
        # It would be said twice, in two grammars.
        message, *mistakes = mistakes
    return ApiError(message, status=answer.status, code=plain(body.get("code")), hints=(*mistakes, *hints))


def _faults(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = body.get("errors")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _is_detail(fault: Mapping[str, Any], detail: str) -> bool:
    """Whether the detail of a problem is this mistake alone, as `field: message`. The message may be cut."""
    field, message = fault.get("field"), fault.get("message")
    if not (isinstance(field, str) and isinstance(message, str) and message):
        return False
    return detail.startswith(f"{field}: {message[:-1] if message.endswith('…') else message}")


def _hints(answer: Answer, body: Mapping[str, Any]) -> tuple[str, ...]:
    hints = []
    if answer.status == 401:
        hints.append("Log in again: hci login")
    request_id = body.get("request_id") or answer.headers.get("X-Request-Id")
    if request_id and answer.status >= 500:
        hints.append(f"Request: {plain(request_id)[:100]}")
    return tuple(hints)


def _field(error: Mapping[str, Any]) -> str:
    """One mistake: line and column of a definition, the field, and what it must be."""
    where = [f"line {error['line']}" if isinstance(error.get("line"), int) else ""]
    where += [f"column {error['column']}" if isinstance(error.get("column"), int) else ""]
    place = ", ".join(filter(None, where))
    return ": ".join(filter(None, [place, f"{plain(error.get('field'))} {plain(error.get('message'))}".strip()]))
