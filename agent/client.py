"""HTTP to the control plane: signatures, and the one place that decides what is retried, and at which address."""

from __future__ import annotations

import http.client
import json
import logging
import random
import secrets
import threading
from collections.abc import Callable
from typing import Any, Optional, TypeVar

from agent import VERSION, clock
from agent.address import NoAnswer, Response
from agent.addresses import Addresses, Try
from agent.identity import Identity
from agent.refusals import ABOUT_AGENT, ABOUT_REQUEST, KEY_UNKNOWN, MEDIA_TYPE, SIGNATURE_EXPIRED
from agent.signing import signature_headers

logger = logging.getLogger(__name__)

# The longest Retry-After that the agent obeys.
RETRY_AFTER_LIMIT_SECONDS = 300
# The signature does not count for the moment, or the server is busy.
_TEMPORARY = (401, 408, 429)
# Without an error code of the control plane, these come from a gateway or a proxy that does not reach it.
_UNDELIVERED = (502, 503, 504)
# How often a request that waits for an address looks whether there is one.
_LOOK_SECONDS = 0.2

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
    or empty if it did not answer. `status` is that of the answer, 0 if there was none. `is_stale` is as in NoAnswer.
    """

    def __init__(
        self,
        reason: str,
        retry_after: Optional[float] = None,
        code: str = "",
        status: int = 0,
        *,
        is_stale: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.code = code
        self.status = status
        self.is_stale = is_stale

    def is_undelivered(self, *, searches: bool) -> bool:
        """Whether the next try should go to another address, since this one does not lead to the control plane.

        A heartbeat that something else answers, such as a sign-in page, says so of the address. The same answer to
        another request may be about that request: a gateway takes no body of its size.
        """
        if self.code or self.is_stale:
            return False
        if self.status == 0 or self.status in _UNDELIVERED:
            return True
        return searches and self.status < 500 and self.status != 429


class MainUnreachable(Unreachable):
    """The main address still does not answer. The one in use works, so the next request can follow at once."""


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

    def __init__(self, *urls: str) -> None:
        """`urls` are addresses of one control plane: the main one, and fallbacks in their order.

        Raises ValueError if one is no address.
        """
        self.addresses = Addresses(urls)
        self.identity: Optional[Identity] = None

    @property
    def url(self) -> str:
        """The address in use."""
        return self.addresses.used.url

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
        searches: bool = False,
    ) -> T:
        """Retry the request until an answer comes. Returns what `understand` makes of the answer.

        While no address answers, the request waits for a heartbeat that finds one. `fresh` gives headers that differ
        with each try. With `accepts_any_code`, an error code that this agent does not know counts as a refusal, too: a
        job must not wait for ever for what it can do without. A refusal of the agent as a whole is retried: heartbeats
        decide what follows from it. `searches` is as in `send`. Raises Refused if the control plane refuses this
        request, or GivenUp if `stop` is set first.
        """
        backoff = Backoff()
        while not stop.is_set():
            if self.addresses.are_in_doubt and not searches:
                backoff.reset()
                stop.wait(_LOOK_SECONDS)
                continue
            failure: Exception
            retry_after = None
            try:
                sent = {**(headers or {}), **fresh()}
                return self.send(method, path, understand=understand, body=body, headers=sent, searches=searches)
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
        searches: bool = False,
    ) -> T:
        """Send the request once. `created` gives the time of the signature in seconds since 1970.

        If that time is too far from the control plane's, the request is sent once more with the time of its Date
        header, which this process then goes by. With `searches`, the request goes to another address if the one in use
        does not answer, and decides what is used. Returns what `understand` makes of the answer. Raises Refused and
        Unreachable; MainUnreachable only with `searches`.
        """
        chosen = self.addresses.choose(searches=searches)
        if chosen is None:
            raise Unreachable("no address of the control plane answers at the moment")
        try:
            result = self._ask(chosen, method, path, body, headers or {}, created).result(understand)
        except Unreachable as error:
            raise self._unreachable(chosen, error, searches=searches) from error.__cause__
        except Refused as error:
            if not searches:
                raise
            raise self._refused(chosen, error) from error.__cause__
        if searches:
            self.addresses.answered(chosen.address, proven=True)
        return result

    def _unreachable(self, chosen: Try, error: Unreachable, *, searches: bool) -> Unreachable:
        """Note for the choice of the address what the error says about it. Returns the error to raise."""
        retry_after, reason = error.retry_after, str(error)
        if error.is_undelivered(searches=searches):
            self.addresses.failed(chosen.address, reason, searches=searches)
            if self.addresses.are_many:
                # That is how long this address is gone.
                retry_after = None
        elif searches and not error.is_stale:
            self.addresses.answered(chosen.address, proven=False)
        kind = MainUnreachable if chosen.is_extra else Unreachable
        shown = f"{chosen.address.url}: {reason}" if self.addresses.are_many else reason
        return kind(shown, retry_after, error.code, error.status, is_stale=error.is_stale)

    def _refused(self, chosen: Try, error: Refused) -> Exception:
        """The same for a refusal of a request that searches."""
        if error.code == KEY_UNKNOWN and chosen.address is not self.addresses.used:
            self.addresses.exclude(chosen.address, str(error))
            kind = MainUnreachable if chosen.is_extra else Unreachable
            return kind(f"{chosen.address.url}: {error}", code=error.code, status=error.status)
        # To refuse an agent in another way, the control plane must know it.
        self.addresses.answered(chosen.address, proven=error.code in ABOUT_AGENT - {KEY_UNKNOWN})
        return error

    def _ask(
        self,
        chosen: Try,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        created: Callable[[], int],
    ) -> _Answer:
        answer = self._send(chosen, method, path, body, headers, created)
        if answer.code == SIGNATURE_EXPIRED:
            before, corrected = clock.offset(), clock.offset_by_date(answer.headers.get("Date"))
            if corrected is not None:
                clock.set_offset(corrected)
                answer = self._send(chosen, method, path, body, headers, created)
                if answer.code == SIGNATURE_EXPIRED:
                    # That was not the time that the control plane goes by.
                    clock.set_offset(before)
                elif abs(corrected - before) >= clock.AGREE_SECONDS:
                    _log_clock(corrected)
        return answer

    def _send(
        self,
        chosen: Try,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        created: Callable[[], int],
    ) -> _Answer:
        target = chosen.address.prefix + path
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
            response = chosen.address.exchange(method, target, body=body, headers=sent, within=chosen.within)
        except NoAnswer as error:
            raise Unreachable(f"no answer ({error})", is_stale=error.is_stale) from error
        return _Answer(response)


class _Answer:
    """A complete answer. `code` is an error code of the control plane, or empty."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers = response.headers
        self._document = _document(response.content)
        is_problem = self.status >= 400 and self.headers.get_content_type() == MEDIA_TYPE
        self.code = str(self._document.get("code", "")) if is_problem else ""

    def result(self, understand: Callable[[dict[str, Any]], T]) -> T:
        """What `understand` makes of the answer. Raises Refused and Unreachable."""
        if self.status >= 300:
            raise self._error()
        try:
            return understand(self._document)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            # A proxy may have answered instead of the control plane, or its version does not fit this agent.
            reason = f"{self.status}, but the agent does not understand the answer ({error!r})"
            raise Unreachable(reason, status=self.status) from error

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
