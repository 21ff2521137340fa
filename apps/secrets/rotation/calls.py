"""HTTP calls of rotators and targets, only to hosts that the setting ROTATION_HOSTS allows."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.lib.errors import Unavailable
from controlplane.lib.frozen import frozen
from controlplane.lib.rotation import StepRefused

CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 10
_MOST_BYTES = 1_000_000
_DEFAULT_PORTS = {"https": 443, "http": 80}

# What a user can do about these statuses.
_ADVICE = {
    401: "Check its credentials.",
    403: "Check what its credentials may do.",
    404: "Check that it exists, and that its credentials may see it.",
    409: "Something else changed it at the same moment.",
}


@frozen
class Answer:
    """An answer with a status below 400, or one that the caller has asked for."""

    status: int
    body: bytes

    def member(self, *path: str) -> Any:
        """A member of the JSON body, or None if there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    accept: tuple[int, ...] = (),
    ca_certificate: str | None = None,
) -> Answer:
    """Make one call, without redirects and repetitions. `accept` are statuses of 400 and above that are answers.

    Raises StepRefused for a host that is not allowed and for a status that would come again; Unavailable if the call
    may have been made or not, or if the server asks to come later.
    """
    # Only rotations need them.
    from urllib3 import Timeout
    from urllib3.exceptions import HTTPError

    host = host_require(url)
    try:
        answer = _pool(ca_certificate).request(
            method,
            url,
            headers=dict(headers),
            body=body,
            timeout=Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS),
            redirect=False,
            retries=False,
            preload_content=False,
        )
        try:
            content = answer.read(_MOST_BYTES)
        finally:
            # A connection that is used again can be closed by the server just then.
            answer.close()
    except (HTTPError, OSError) as error:
        raise Unavailable(f"{host} did not answer ({type(error).__name__}).") from None
    status = answer.status
    if status in (408, 425, 429) or status >= 500:
        raise Unavailable(f"{host} answered with the status {status}.")
    if status >= 300 and status not in accept:
        raise StepRefused(f"{host} answered with the status {status}. {_ADVICE.get(status, '')}".rstrip())
    return Answer(status, content)


def host_require(url: str) -> str:
    """The host and port of an address. Raises StepRefused unless the settings allow the address."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    server_require(parts.hostname or "", port, scheme=parts.scheme)
    return parts.netloc


def server_require(host: str, port: int, *, scheme: str = "https") -> None:
    """Raises StepRefused unless ROTATION_HOSTS has this server. Without TLS, its entry must begin with ``http://``."""
    plain = scheme == "http"
    default = _DEFAULT_PORTS["http" if plain else "https"]
    shown = host if port == default else f"{host}:{port}"
    wanted = f"http://{shown}" if plain else shown
    allowed = {entry.strip().lower() for entry in settings.ROTATION_HOSTS}
    allowed.add(urlsplit(settings.GITHUB_API_URL).netloc.lower())
    if wanted.lower() not in allowed:
        raise StepRefused(f"Rotations may not call {wanted}. Add it to the setting ROTATION_HOSTS.")


@cache
def _pool(ca_certificate: str | None) -> Any:
    import ssl

    from urllib3 import PoolManager

    context = ssl.create_default_context(cadata=ca_certificate) if ca_certificate else None
    if context is None:
        from certifi import where

        return PoolManager(ca_certs=where())
    return PoolManager(ssl_context=context)
