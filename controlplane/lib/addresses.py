"""IP addresses of clients: which proxies may name them, and which addresses one client can have."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@cache
def networks_parse(names: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks with these names, such as ``10.0.0.0/8`` or one address. Raises ValueError with the reason."""
    networks = tuple(ipaddress.ip_network(name.strip()) for name in names)
    for network in networks:
        if network.prefixlen == 0:
            raise ValueError(f"{network} contains every address")
    return networks


def request_address(meta: Mapping[str, Any]) -> str:
    """The IP address of the client as the gateway reports it; without a gateway, as the server or its proxy sees it.

    `meta` is Django's ``request.META``. On Lambda the address comes from the gateway's event, which the adapters put
    into it: a client can write headers, but cannot write the event. Elsewhere X-Forwarded-For counts only if a proxy of
    TRUSTED_PROXIES sent it.
    """
    event = meta.get("apig_wsgi.full_event") or meta.get("lambda.event")
    if event is None:
        peer, forwarded = str(meta.get("REMOTE_ADDR", "")), str(meta.get("HTTP_X_FORWARDED_FOR", ""))
        return forwarded_address(peer, forwarded, networks_parse(tuple(settings.TRUSTED_PROXIES)))
    context = event.get("requestContext") or {}
    # The event of an HTTP API, and then that of a REST API.
    seen = (context.get("http") or {}).get("sourceIp") or (context.get("identity") or {}).get("sourceIp")
    return str(seen or "")


def forwarded_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The client's address. `peer` has the connection to us, and `forwarded` is the value of X-Forwarded-For.

    Each proxy appends the address from which it got the request, so the header is read from its end: the first address
    that is not a trusted proxy's is the client's. What the client itself wrote is to the left of that. If an entry
    is no address, the client counts as the proxy that sent it on.
    """
    client = peer
    for entry in reversed(forwarded.split(",")):
        if not _trusted(address_parse(client), trusted):
            break
        address = address_parse(entry)
        if address is None:
            break
        client = str(address)
    return client


def client_networks(address: str) -> list[str]:
    """By what a client counts, the largest first: an IPv4 address, or the /48 and the /64 network of an IPv6 address.

    One machine has a whole /64, and one customer of a provider often has 256 or 65,536 of them (RFC 6177).
    The list is ["unknown"] for a text that is no address.
    """
    parsed = address_parse(address)
    if parsed is None:
        return ["unknown"]
    if parsed.version == 4:
        return [str(parsed)]
    return [str(ipaddress.ip_network((parsed, length), strict=False)) for length in (48, 64)]


def address_parse(text: str) -> Address | None:
    """The address, also of ``192.0.2.1:443`` and ``[2001:db8::1]:443`` as some proxies write it; None for other texts.

    An IPv4 address that is mapped into IPv6 (``::ffff:192.0.2.1``) is the IPv4 address.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def is_loopback(host: str) -> bool:
    """Whether the host of a URL is this machine by its very name: ``localhost``, or an address such as 127.0.0.1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trusted(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
