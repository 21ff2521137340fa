"""Requests to addresses that users or settings name: webhooks. They reach nothing inside our own network.

Only https is spoken. The name is resolved once, each of its addresses must be public (or in a network of the setting
OUTGOING_NETWORKS), and the connection goes to an address that was checked, so that a name that changes in between
leads nowhere else. Redirects are not followed, and proxies of the environment are not used.
"""

import http.client
import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.lib.addresses import Address, networks_parse
from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen

# The whole exchange, from the name's resolution to the last byte.
TIMEOUT_SECONDS = 10
# What is kept of an answer, for messages about failures.
_ANSWER_BYTES = 64 * 1024
_PORT = 443
_LONGEST_RETRY = 3600
# IPv6 addresses that lead to the IPv4 address within them: NAT64 (RFC 6052) and 6to4 (RFC 3056).
_NAT64, _SIX_TO_FOUR = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16")


class OutgoingRefused(Exception):
    """The address may not be requested: its scheme, or where it leads. The text has no secret."""


class OutgoingFailed(Exception):
    """The other side does not answer. The request may have arrived. The text has no secret."""


@frozen
class OutgoingAnswer:
    """An answer: its status, the beginning of its body, and after how many seconds it asks to be requested again."""

    status: int
    body: bytes
    retry_after: int | None = None


def outgoing_url_require(url: str, *, field: str) -> None:
    """Raises InvalidInput for the field unless the text is an https URL that may be requested.

    It resolves no name: where a name leads is checked with each request.
    """
    try:
        host, _, _ = _parts(url)
        _literal_require(host)
    except OutgoingRefused as error:
        raise InvalidInput.field(field, str(error)) from error


def outgoing_post(
    url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = TIMEOUT_SECONDS
) -> OutgoingAnswer:
    """POST the body and return the answer, whatever its status. Redirects are answers, too.

    Raises OutgoingRefused before anything is sent, and OutgoingFailed.
    """
    until = time.monotonic() + seconds
    host, port, target = _parts(url)
    try:
        connection = _Pinned(host, port, _checked_addresses(host, port), until)
        try:
            connection.request("POST", target, body=body, headers={"User-Agent": "hybrid-ci", **headers})
            answer = connection.getresponse()
            return OutgoingAnswer(answer.status, _read(answer), _retry_after(answer))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise OutgoingFailed(f"{host} does not answer: {_reason(error)}") from error


def _retry_after(answer: http.client.HTTPResponse) -> int | None:
    """The seconds in Retry-After (RFC 9110, section 10.2.3), up to an hour. Its other form, a date, counts as none."""
    text = answer.headers.get("Retry-After", "").strip()
    return min(int(text), _LONGEST_RETRY) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The beginning of the body."""
    kept = b""
    while len(kept) < _ANSWER_BYTES:
        part = answer.read1(_ANSWER_BYTES - len(kept))
        if not part:
            break
        kept += part
    return kept


class _TimedSocket(ssl.SSLSocket):
    """Its reads and writes end at one moment all together, so a server that answers byte by byte gets no more time."""

    until = math.inf

    def recv_into(self, *args: Any, **options: Any) -> int:
        self.settimeout(_rest(self.until))
        return super().recv_into(*args, **options)

    def send(self, *args: Any, **options: Any) -> int:
        self.settimeout(_rest(self.until))
        return super().send(*args, **options)


class _Pinned(http.client.HTTPSConnection):
    """A connection to one of the given addresses, with the certificate of the name."""

    def __init__(self, host: str, port: int, addresses: list[str], until: float) -> None:
        self._tls = ssl.create_default_context()
        self._tls.sslsocket_class = _TimedSocket
        super().__init__(host, port, context=self._tls)
        self._addresses = addresses
        self._until = until

    def connect(self) -> None:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                plain = socket.create_connection((address, self.port), timeout=_rest(self._until))
            except OSError as error:
                failure = error
                continue
            try:
                plain.settimeout(_rest(self._until))
                secured = cast("_TimedSocket", self._tls.wrap_socket(plain, server_hostname=self.host))
            except BaseException:
                plain.close()
                raise
            secured.until = self._until
            self.sock = secured
            return
        raise failure or OSError("it has no address")


def _parts(url: str) -> tuple[str, int, str]:
    """Host, port and target of the URL. Raises OutgoingRefused."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError as error:
        raise OutgoingRefused("must be an https URL") from error
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not is_plain or parts.scheme != "https" or not parts.hostname:
        raise OutgoingRefused("must be an https URL")
    if parts.username is not None or parts.password is not None:
        raise OutgoingRefused("must be an https URL without a user and a password")
    return parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _checked_addresses(host: str, port: int) -> list[str]:
    """All addresses of the name. Raises OutgoingRefused if one is not allowed, and OSError if there is none.

    A name with a public and a private address is refused: the order of the two is up to its owner.
    """
    _literal_require(host)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not _is_allowed(ipaddress.ip_address(address.partition("%")[0])):
            raise OutgoingRefused(f"{host} is not a public address. OUTGOING_NETWORKS can allow its network.")
    return addresses


def _literal_require(host: str) -> None:
    """Raises OutgoingRefused for an IP address that is not allowed, written as one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not _is_allowed(address):
        raise OutgoingRefused(f"{host} is not a public address. OUTGOING_NETWORKS can allow its network.")


def _is_allowed(address: Address) -> bool:
    """Whether it is public or in a network that the setting allows."""
    inner = _inner(address)
    if any(inner in network for network in networks_parse(tuple(settings.OUTGOING_NETWORKS))):
        return True
    return inner.is_global and not inner.is_multicast


def _inner(address: Address) -> Address:
    """The IPv4 address to which an IPv6 address leads in the end, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _SIX_TO_FOUR:
            return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address


def _rest(until: float) -> float:
    rest = until - time.monotonic()
    if rest <= 0:
        raise TimeoutError("the time is over")
    return rest


def _reason(error: BaseException) -> str:
    """What went wrong, without what the other side wrote."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "the time is over"
    if isinstance(error, socket.gaierror):
        return "its name has no address"
    return type(error).__name__
