"""Limits on how often something may be tried, counted in DynamoDB for all processes together.

A window is fixed: who uses up two neighbouring ones gets in twice the limit around their border.
"""

import ipaddress
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from apps.accounts.models import RateLimitWindow, email_normalise, secret_hash
from controlplane.lib import clock
from controlplane.lib.errors import TooManyRequests, Unavailable
from controlplane.nosql.connection import ConditionFailed

logger = logging.getLogger(__name__)

CALLS_WINDOW_SECONDS = 60
# A process tells of calls by so many at a time, so that a call costs a fiftieth of a write, and fewer cost nothing.
CALLS_TOLD_AT_ONCE = 50
_MAX_CALLERS = 10_000


def sign_in_rate_limit(*, address: str, account: str | None = None) -> None:
    """Count an attempt to sign in from this address, and to this account (an e-mail address in any spelling).

    It is counted before anything is looked at, so that attempts at the same time are as many as one after the other.
    Raises TooManyRequests; and Unavailable when it can't be counted: then nobody gets in.
    """
    limits = [("address", _network(address), settings.SIGN_IN_ATTEMPTS_PER_ADDRESS)]
    if account is not None:
        limits.append(("account", email_normalise(account), settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT))
    seconds = settings.SIGN_IN_WINDOW_SECONDS
    for what, who, limit in limits:
        counted, ends_at = _window(f"sign-in by {what}", who, seconds)
        try:
            counted.update(
                actions=[
                    RateLimitWindow.tries.add(1),
                    RateLimitWindow.expires_at.set(datetime.fromtimestamp(ends_at, UTC)),
                ],
                condition=RateLimitWindow.tries.does_not_exist() | (RateLimitWindow.tries < limit),
            )
        except ConditionFailed as error:
            raise TooManyRequests(
                f"There were too many attempts to sign in with this {what}. Please wait.",
                retry_after=max(1, ends_at - clock.epoch()),
            ) from error


@dataclass
class _Calls:
    """What this process knows of a caller in one window: what all have `told` to DynamoDB, and what it has not told."""

    window: int
    told: int = 0
    untold: int = 0


class _CallCounter:
    """Callers of this process; of too many, the one that has been quiet longest is forgotten."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, _Calls] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, who: str, window: int, limit: int) -> int:
        """Count a call; returns how many are to be told now, or 0. Raises OverflowError over the limit."""
        with self._lock:
            calls = self._callers.get(who)
            if calls is None or calls.window != window:
                calls = self._callers[who] = _Calls(window)
            self._callers.move_to_end(who)
            while len(self._callers) > _MAX_CALLERS:
                self._callers.popitem(last=False)
            if calls.told + calls.untold >= limit:
                raise OverflowError
            calls.untold += 1
            if calls.untold < CALLS_TOLD_AT_ONCE:
                return 0
            telling, calls.untold = calls.untold, 0
            calls.told += telling
            return telling

    def learn(self, who: str, window: int, told: int) -> None:
        """All processes together have told of so many."""
        with self._lock:
            calls = self._callers.get(who)
            if calls is not None and calls.window == window:
                calls.told = max(calls.told, told)

    def clear(self) -> None:
        with self._lock:
            self._callers.clear()


counter = _CallCounter()


def api_call_rate_limit(*, caller: str) -> None:
    """Count a call by a token or session, named by what is no secret. Raises TooManyRequests.

    Each process lets in at most CALLS_TOLD_AT_ONCE - 1 calls a minute of which the others do not know; the limit is
    exact to that, times the processes. When calls can't be counted they are let in.
    """
    window = clock.epoch() // CALLS_WINDOW_SECONDS
    try:
        telling = counter.count(caller, window, settings.API_CALLS_PER_MINUTE)
    except OverflowError:
        raise TooManyRequests(
            "There were too many calls by this token. Please wait.",
            retry_after=max(1, (window + 1) * CALLS_WINDOW_SECONDS - clock.epoch()),
        ) from None
    if not telling:
        return
    counted, ends_at = _window("calls", caller, CALLS_WINDOW_SECONDS)
    try:
        counted.update(
            actions=[
                RateLimitWindow.tries.add(telling),
                RateLimitWindow.expires_at.set(datetime.fromtimestamp(ends_at, UTC)),
            ]
        )
    except Unavailable:
        logger.warning("calls of the API cannot be counted just now")
        return
    counter.learn(caller, window, int(counted.tries))


def _window(what: str, who: str, seconds: int) -> tuple[RateLimitWindow, int]:
    """The counter of this window, and when the window ends. Its key is a hash, since what people type may be long."""
    window = clock.epoch() // seconds
    return RateLimitWindow(secret_hash(f"{what} {who} {window}")), (window + 1) * seconds


def _network(address: str) -> str:
    """An IPv4 address; of an IPv6 one the /64, all of which one machine can have."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
