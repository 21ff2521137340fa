"""HTTP calls to providers of repositories.

The address of a provider comes from its connection, which only admins make. Redirects are followed within the same
server alone, so that no credentials go to another one. After an answer that limits the rate, this process asks no more
with these credentials until the time that the answer named: GitHub bans those who go on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

from controlplane.lib import clock
from controlplane.lib.addresses import is_loopback
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, RetryLater, Unavailable, Unprocessable
from controlplane.lib.frozen import frozen

CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 10
MOST_BYTES = 8_000_000
# GitHub: "wait for at least one minute" after a secondary limit without a time.
_SECONDARY_PAUSE_SECONDS = 60
# A provider whose clock is wrong must not silence us for a day.
_LONGEST_PAUSE_SECONDS = 3700
_MOST_REDIRECTS = 3
_MOST_PAGES = 50
_MOST_PAUSES = 1000
_REDIRECTS = (301, 302, 307, 308)
# What a provider says about a refusal, for messages.
_SAID_CHARACTERS = 200

# Until when nothing is asked, in seconds since 1970, by server and the hash of the credentials.
_pauses: dict[tuple[str, str], float] = {}


class ProviderRefused(Unprocessable):
    """The provider answers with a status that would come again. `http_status` is its status."""

    code = ErrorCode.SOURCE_REFUSED

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


@frozen
class Reply:
    """An answer of a provider. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON. Raises Unavailable if it is none: then something else than the provider has answered."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unavailable("The provider's answer is not JSON. Check the address of its API.") from None

    def member(self, *path: str) -> Any:
        """A member of the body, or None if there is none."""
        found = self.document
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    @property
    def next_url(self) -> str | None:
        """The address of the next page of a list."""
        for link in self.headers.get("link", "").split(","):
            address, _, parameters = link.partition(";")
            if 'rel="next"' in parameters:
                return address.strip().removeprefix("<").removesuffix(">")
        return None


def provider_url_require(url: str, *, field: str) -> None:
    """Raises InvalidInput for the field unless it is the https address of a server, without credentials and query.

    On this machine itself, http is enough.
    """
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidInput.field(field, "must be an https URL") from None
    is_plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    is_local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not is_plain or not port_is_valid or not parts.hostname or not (parts.scheme == "https" or is_local):
        raise InvalidInput.field(field, "must be an https URL")
    if "@" in parts.netloc or "?" in url or "#" in url or url.endswith("/"):
        raise InvalidInput.field(field, "must be an https URL without credentials, query and a slash at the end")


def provider_call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: Any = None,
    accept: tuple[int, ...] = (),
    who: str | None = None,
) -> Reply:
    """Make one call. `body` is sent as JSON; `accept` are statuses of 400 and above that are answers.

    `who` names whose limit it counts for, where each call has other credentials.

    Raises RetryLater if the provider limits the rate; Unavailable if it does not answer (it may have done what was
    asked) or fails; and ProviderRefused for a status that would come again.
    """
    server = _server(url)
    key = (server, who or _credentials(headers))
    _pause_require(key)
    for _ in range(_MOST_REDIRECTS + 1):
        reply = _exchange(method, url, headers, body)
        if reply.status not in _REDIRECTS:
            break
        url = urljoin(url, reply.headers.get("location", ""))
        # 301 and 302 turn other methods into GET; a renamed repository is answered with 301 to GET and 307 else.
        if _server(url) != server or (method != "GET" and reply.status in (301, 302)):
            raise ProviderRefused(
                f"{server} sends the request on to {_server(url) or 'another address'}. Correct the address of the "
                "connection.",
                http_status=reply.status,
            )
    pause = _pause_of(reply)
    if pause is not None:
        _pause_note(key, pause)
        raise RetryLater(f"{server} limits the rate of requests for {pause:.0f} s.", seconds=pause)
    if reply.status in (408, 425) or reply.status >= 500:
        raise Unavailable(f"{server} answers with the status {reply.status}. Try again.")
    if reply.status >= 300 and reply.status not in accept:
        raise ProviderRefused(
            f"{server} answers with the status {reply.status}: {_said(reply)}", http_status=reply.status
        )
    return reply


def provider_pages(
    url: str, *, headers: Mapping[str, str], member: str | None = None, who: str | None = None
) -> Iterator[Any]:
    """The entries of a list of any number of pages; `member` has those of a page, None if the page is the list.

    Raises as `provider_call`.
    """
    server, following = _server(url), url
    for _ in range(_MOST_PAGES):
        reply = provider_call("GET", following, headers=headers, who=who)
        entries = reply.member(member) if member else reply.document
        if not isinstance(entries, list):
            raise Unavailable(f"{server} answers with something else than a list. Check the address of its API.")
        yield from entries
        following = reply.next_url or ""
        if not following:
            return
        if _server(following) != server:
            raise ProviderRefused(f"{server} names a next page of another server.", http_status=reply.status)


def pauses_forget() -> None:
    """Forget which providers limit the rate."""
    _pauses.clear()


def _exchange(method: str, url: str, headers: Mapping[str, str], body: Any) -> Reply:
    # Only what calls a provider needs it.
    from urllib3 import Timeout
    from urllib3.exceptions import HTTPError

    sent = {"User-Agent": "hybrid-ci-cd", "Accept": "application/json", **headers}
    content = None if body is None else json.dumps(body).encode()
    if content is not None:
        sent["Content-Type"] = "application/json"
    server = _server(url)
    try:
        answer = _pool().request(
            method,
            url,
            headers=sent,
            body=content,
            timeout=Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS),
            redirect=False,
            retries=False,
            preload_content=False,
        )
        try:
            received = answer.read(MOST_BYTES + 1)
        finally:
            # A connection that is used again can be closed by the server just then.
            answer.close()
    except (HTTPError, OSError) as error:
        raise Unavailable(f"{server} does not answer ({type(error).__name__}). Try again.") from None
    if len(received) > MOST_BYTES:
        raise ProviderRefused(f"{server} answers with more than {MOST_BYTES:,} bytes.", http_status=answer.status)
    return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, received)


def _server(url: str) -> str:
    """Scheme, host and port; empty for what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if not parts.hostname or parts.scheme not in ("https", "http"):
        return ""
    return f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}"


def _credentials(headers: Mapping[str, str]) -> str:
    text = "\0".join(f"{name.lower()}:{value}" for name, value in sorted(headers.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _pause_require(key: tuple[str, str]) -> None:
    left = _pauses.get(key, 0) - clock.now().timestamp()
    if left > 0:
        raise RetryLater(f"{key[0]} limits the rate of requests for {left:.0f} s more.", seconds=left)
    _pauses.pop(key, None)


def _pause_note(key: tuple[str, str], seconds: float) -> None:
    if len(_pauses) >= _MOST_PAUSES:
        _pauses.clear()
    _pauses[key] = clock.now().timestamp() + seconds


def _pause_of(reply: Reply) -> float | None:
    """For how many seconds the provider wants no more requests; None if it does not limit the rate.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api; GitLab and Gitea answer with 429.
    """
    if reply.status not in (403, 429):
        return None
    wanted = _number(reply, "retry-after")
    if wanted is None:
        wanted = _until_reset(reply)
    if wanted is None and (reply.status == 429 or b"secondary rate limit" in reply.body.lower()):
        wanted = _SECONDARY_PAUSE_SECONDS
    return None if wanted is None else min(max(wanted, 1), _LONGEST_PAUSE_SECONDS)


def _until_reset(reply: Reply) -> float | None:
    """Seconds until the limit starts anew, where all of it is used; None if it is not, or the reply does not say."""
    for prefix in ("x-ratelimit", "ratelimit"):
        at = _number(reply, f"{prefix}-reset")
        if at is not None and reply.headers.get(f"{prefix}-remaining") == "0":
            return at - clock.now().timestamp()
    return None


def _number(reply: Reply, header: str) -> float | None:
    text = reply.headers.get(header, "")
    return float(text) if text.isascii() and text.isdecimal() else None


def _said(reply: Reply) -> str:
    """What the provider says about its refusal. It is shown to users, and has none of our credentials."""
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return "without a reason"
    said = document.get("message") or document.get("error") if isinstance(document, dict) else None
    text = " ".join(str(said or "without a reason").split())
    return "".join(character for character in text if character.isprintable())[:_SAID_CHARACTERS]


@cache
def _pool() -> Any:
    import ssl

    from certifi import where
    from urllib3 import PoolManager

    # Those of the system, of SSL_CERT_FILE (an enterprise host may have a certificate of its own authority), and those
    # that come with the package.
    context = ssl.create_default_context()
    context.load_verify_locations(where())
    return PoolManager(ssl_context=context)
