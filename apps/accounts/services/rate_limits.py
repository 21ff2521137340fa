"""Rate limits on signing in and on calls of the API, counted in DynamoDB for all processes together.

A window is fixed, so up to twice the limit gets in around the border of two windows.
"""

import ipaddress
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from cachetools import TTLCache
from django.conf import settings

from apps.accounts.identities import email_normalise
from apps.accounts.models import RateLimitWindow, secret_hash
from controlplane.lib import clock
from controlplane.lib.errors import TooManyRequests, Unavailable
from controlplane.nosql.connection import ConditionFailed

logger = logging.getLogger(__name__)

CALLS_WINDOW_SECONDS = 60
# A process counts so many calls before it adds them to DynamoDB's counter, so a call costs a fiftieth of a write.
CALLS_PER_WRITE = 50
_MAX_CALLERS = 10_000


def sign_in_rate_limit(*, address: str, account: str | None = None) -> None:
    """Count an attempt to sign in from this address, and to this account (an e-mail address in any spelling).

    It is counted before anything is checked, so attempts at the same time count as those one after the other do.
    Raises TooManyRequests, and Unavailable when the attempt cannot be counted: then it must be refused.
    """
    limits = [("address", _network(address), settings.SIGN_IN_ATTEMPTS_PER_ADDRESS)]
    if account is not None:
        limits.append(("account", email_normalise(account), settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT))
    seconds = settings.SIGN_IN_WINDOW_SECONDS
    for what, who, limit in limits:
        row, ends_at = _window(f"sign-in by {what}", who, seconds)
        try:
            row.update(
                actions=[
                    RateLimitWindow.tries.add(1),
                    RateLimitWindow.expires_at.set(datetime.fromtimestamp(ends_at, UTC)),
                ],
                condition=RateLimitWindow.tries.does_not_exist() | (RateLimitWindow.tries < limit),
            )
        except ConditionFailed as error:
            raise TooManyRequests(
                f"There were too many attempts to sign in with this {what}. Please wait and try again.",
                retry_after=max(1, ends_at - clock.epoch()),
            ) from error


@dataclass
class _Calls:
    """A caller's calls in one window: `counted` in DynamoDB by all processes, as far as this one knows, and `pending`
    those that this process has not added yet."""

    counted: int = 0
    pending: int = 0


class _CallCounter:
    """The calls that this process has let in, by caller and window; of too many callers, the least recent go."""

    def __init__(self) -> None:
        self._calls: TTLCache[tuple[str, int], _Calls] = TTLCache(_MAX_CALLERS, CALLS_WINDOW_SECONDS, timer=clock.epoch)
        self._lock = threading.Lock()

    def count(self, caller: str, window: int, limit: int) -> int:
        """Count a call; returns how many are to be added to DynamoDB's counter now, or 0.

        Raises OverflowError over the limit.
        """
        with self._lock:
            calls = self._calls.setdefault((caller, window), _Calls())
            if calls.counted + calls.pending >= limit:
                raise OverflowError
            calls.pending += 1
            if calls.pending < CALLS_PER_WRITE:
                return 0
            added, calls.pending = calls.pending, 0
            calls.counted += added
            return added

    def learn(self, caller: str, window: int, counted: int) -> None:
        """Take over DynamoDB's counter, which all processes add to."""
        with self._lock:
            calls = self._calls.get((caller, window))
            if calls is not None:
                calls.counted = max(calls.counted, counted)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()


counter = _CallCounter()


def api_call_rate_limit(*, caller: str) -> None:
    """Count a call of the API. `caller` names a token or session by something that is no secret.

    Each process lets in at most CALLS_PER_WRITE - 1 calls a minute of which the others do not know, so the limit is
    exact to that, times the number of processes. Calls that cannot be counted are let in. Raises TooManyRequests.
    """
    window = clock.epoch() // CALLS_WINDOW_SECONDS
    try:
        added = counter.count(caller, window, settings.API_CALLS_PER_MINUTE)
    except OverflowError:
        raise TooManyRequests(
            "There were too many calls with this token. Please wait and try again.",
            retry_after=max(1, (window + 1) * CALLS_WINDOW_SECONDS - clock.epoch()),
        ) from None
    if not added:
        return
    row, ends_at = _window("calls", caller, CALLS_WINDOW_SECONDS)
    try:
        row.update(
            actions=[
                RateLimitWindow.tries.add(added),
                RateLimitWindow.expires_at.set(datetime.fromtimestamp(ends_at, UTC)),
            ]
        )
    except Unavailable:
        logger.warning("could not add %d API calls to the rate limit's counter; let them in", added)
        return
    counter.learn(caller, window, int(row.tries))


def _window(what: str, who: str, seconds: int) -> tuple[RateLimitWindow, int]:
    """The counter of the current window, and when it ends. Its key is a hash, since what people type may be long."""
    window = clock.epoch() // seconds
    return RateLimitWindow(secret_hash(f"{what} {who} {window}")), (window + 1) * seconds


def _network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address, since one machine can have all of that."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
