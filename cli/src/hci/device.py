"""Logging in with a browser: the user allows it there, and the program asks for its token meanwhile (RFC 8628)."""

from __future__ import annotations

import os
import socket
import sys
import time
import webbrowser
from contextlib import suppress
from urllib.parse import urlencode

from hci import endpoints, output
from hci.client import ApiError, Client, Json, expected_form, text
from hci.errors import Refused, Unreachable
from hci.text import plain

_LONGEST_INTERVAL = 30.0
# The codes with which the control plane says that the user has not decided, or that it cannot say yet.
_NOT_YET = frozenset(["authorization_pending", "slow_down"])


def browser_token(client: Client) -> str | None:
    """The token that the user allows in a browser; None for a control plane that is too old to offer this.

    Raises HciError, also if the user denies it or lets it expire.
    """
    try:
        started = client.json(endpoints.DEVICE_AUTHORIZATION, body={"name": _own_name()})
    except ApiError as error:
        if error.status in (404, 405):
            return None
        raise
    # At the address that the user has named, whatever a proxy in between makes of it.
    page, code = f"{client.server}/device", plain(text(started, "user_code"))
    output.notice(f"Open {page} and type this code: {code}")
    if _has_browser():
        with suppress(webbrowser.Error, OSError):
            webbrowser.open(f"{page}?{urlencode({'code': code})}")
    return _awaited(client, started)


def _awaited(client: Client, started: Json) -> str:
    """Ask until the user has decided."""
    with expected_form():
        interval = min(max(float(started["interval"]), 0.1), _LONGEST_INTERVAL)
        until = time.monotonic() + float(started["expires_in"])
    output.notice("Waiting for you to allow it in the browser …")
    while time.monotonic() < until:
        time.sleep(interval)
        try:
            answer = client.json(endpoints.DEVICE_TOKEN, body={"device_code": text(started, "device_code")})
        except Unreachable:
            continue
        except ApiError as error:
            if error.code == "access_denied":
                raise Refused("You have denied it in the browser.") from error
            if error.code not in _NOT_YET and error.status not in (429, 502, 503, 504):
                raise
            continue
        return text(answer, "access_token")
    raise Refused("The code has expired.", hints=("Begin again: hci login",))


def _own_name() -> str:
    """What the user sees in the browser and in the list of tokens."""
    host = "".join(letter for letter in socket.gethostname() if letter.isprintable())[:80]
    return f"hci on {host or 'a machine'}"


def _has_browser() -> bool:
    """Whether a browser can open in a window of its own: one that takes the terminal would be in the way."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    windows = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or bool(windows)
