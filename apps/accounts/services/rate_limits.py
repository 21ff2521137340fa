"""Rate limits on signing in, on enrolment and on calls of the API, counted in DynamoDB for all processes together.

A window is fixed, so up to twice the limit gets in around the border of two windows. Signing in and enrolling count
failures, each by the client that failed: docs/decisions/0008.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cachetools import TTLCache
from django.conf import settings
from django.core.cache import cache

from apps.accounts.identities import email_normalise
from apps.accounts.models import RateLimitWindow, secret_hash
from apps.accounts.policies import accounts_manage_require
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.addresses import address_parse, client_networks
from controlplane.lib.errors import InvalidInput, TooManyRequests, Unavailable
from controlplane.lib.frozen import frozen
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction

logger = logging.getLogger(__name__)

CALLS_WINDOW_SECONDS = 60
# A process counts so many calls before it adds them to DynamoDB's counter, so a call costs a fiftieth of a write.
CALLS_PER_WRITE = 50
_MAX_CALLERS = 10_000

# The limits by the address of a client that an unlock ends.
_OF_A_CLIENT = (
    "password-client",
    "start-client",
    "provider-client",
    "enrolment-client",
    "invitation-client",
    "device-client",
)

# Multiples of SIGN_IN_ATTEMPTS_PER_ADDRESS. No secret can be guessed in these ways, so the limits only bound what one
# client costs, and leave room for all people of an office behind one address.
STARTS_FACTOR = 20
FAILURES_FACTOR = 10
# A multiple of SIGN_IN_ATTEMPTS_PER_ACCOUNT: failed passwords for one account from all unknown browsers together.
ACCOUNT_FACTOR = 10
# A multiple of a client's limit: for the /48 network of an IPv6 address. It is less than ACCOUNT_FACTOR, so that the
# owner of one such network does not reach the limit of an account.
SITE_FACTOR = 5
# For so long a process refuses a client without asking DynamoDB again, so that a flood of requests costs no writes.
_REFUSED_SECONDS = 5


@frozen
class _Limit:
    """At most `most` in a window, of the kind `what` by `who`. `message` is for people.

    `what` has no spaces, so that no text that a client can choose as `who` gives the key of another kind.
    """

    what: str
    who: str
    most: int
    message: str


class Reservation:
    """An attempt that is counted until it is given back."""

    def __init__(self, rows: Sequence[RateLimitWindow]) -> None:
        self._rows = rows

    def give_back(self) -> None:
        """Count the attempt no longer: it succeeded, or failed through no fault of the client.

        If that cannot be written, the attempt stays counted until its window ends.
        """
        for row in self._rows:
            try:
                row.update(actions=[RateLimitWindow.tries.add(-1)], condition=RateLimitWindow.tries > 0)
            except ConditionFailed:
                # The window has ended, and DynamoDB has deleted the row.
                continue
            except Unavailable:
                logger.warning("could not give a successful sign-in back to its rate limit")


def password_attempt_reserve(*, address: str, email: str, known_browser: str | None = None) -> Reservation:
    """Reserve an attempt to sign in to the account of this e-mail address (in any spelling) with a password.

    It is counted before the password is checked, so attempts at the same time count as those one after the other do.
    `known_browser` is the id of a browser that has signed in to this account before: its attempts count on their own,
    so failures of others do not lock the owner out.
    Raises TooManyRequests, and Unavailable when the attempt cannot be counted: then it must be refused.
    """
    account, most = email_normalise(email), settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT
    if known_browser is not None:
        message = "There were too many failed attempts to sign in with this browser."
        return _reserve(_Limit("password-browser", known_browser, most, message))
    by_client = "There were too many failed attempts to sign in from this address."
    by_account = "There were too many failed attempts to sign in with this account."
    return _reserve(
        *_client_limits("password-client", address, settings.SIGN_IN_ATTEMPTS_PER_ADDRESS, by_client),
        *_client_limits("password-client-account", address, most, by_account, account=account),
        _Limit("password-account", account, most * ACCOUNT_FACTOR, by_account),
    )


def password_change_reserve(*, email: str) -> Reservation:
    """Reserve an attempt of the signed-in user with this e-mail address to prove their old password.

    It counts apart from sign-in, so a session that was taken over does not lock the owner out. Raises as above.
    """
    message = "There were too many failed attempts to change this password."
    account = email_normalise(email)
    return _reserve(_Limit("password-change", account, settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT, message))


def provider_start_count(*, address: str) -> None:
    """Count that this client goes to a provider to sign in, which costs us a few writes. Raises as above."""
    most = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS * STARTS_FACTOR
    message = "Too many sign-ins were started from this address."
    _reserve(*_client_limits("start-client", address, most, message))


def provider_attempt_reserve(*, address: str) -> Reservation:
    """Reserve an attempt to sign in with what a provider gave, or record one that failed. Raises as above."""
    most = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS * FAILURES_FACTOR
    message = "There were too many failed attempts to sign in from this address."
    return _reserve(*_client_limits("provider-client", address, most, message))


def identity_failure_count(*, identity_key: str) -> None:
    """Count that a person could not sign in for whom the provider has vouched. Raises as above.

    `identity_key` must be what the provider has said, never what a client claims to be.
    """
    message = "There were too many failed attempts to sign in with this account."
    _reserve(_Limit("provider-account", identity_key, settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT, message))


def device_start_count(*, address: str) -> None:
    """Count that a program of this client asks for a code, which costs us a few writes. Raises as above."""
    most = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS * STARTS_FACTOR
    message = "Programs have asked for too many codes from this address."
    _reserve(*_client_limits("device-client", address, most, message))


def device_code_failure_count(*, user_id: str) -> None:
    """Count that a user typed the code of no program. Raises as above."""
    message = "You have typed too many codes that do not exist."
    _reserve(_Limit("device-code", user_id, settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT * ACCOUNT_FACTOR, message))


def enrolment_failure_count(*, address: str) -> None:
    """Count an enrolment with an invalid token. Raises as above, instead of the error that the client would get.

    Only failures count and only they are refused: a machine with a valid token can enrol whatever its neighbours do.
    """
    most = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS * FAILURES_FACTOR
    message = "There were too many enrolments with an invalid token from this address. Get a valid token."
    _reserve(*_client_limits("enrolment-client", address, most, message))


def invitation_failure_count(*, address: str) -> None:
    """Count that a client sent the code of no open invitation. Raises as above, instead of the error it would get.

    No code can be guessed, so only failures count, and who has a right one can accept it whatever the neighbours do.
    """
    most = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS * FAILURES_FACTOR
    message = "There were too many invalid invitations from this address."
    _reserve(*_client_limits("invitation-client", address, most, message))


def _client_limits(what: str, address: str, most: int, message: str, *, account: str = "") -> list[_Limit]:
    """The limits of a client, by each of its networks: the larger one first, which bounds the number of rows."""
    networks = client_networks(address)
    factors = (SITE_FACTOR, 1)[-len(networks) :]
    return [
        _Limit(what, f"{network} {account}", most * factor, message)
        for network, factor in zip(networks, factors, strict=True)
    ]


def _reserve(*limits: _Limit) -> Reservation:
    """Count an attempt under each limit, in this order.

    An attempt that a later limit refuses stays counted under the earlier ones, so that a client who goes on is refused
    by its own limit, without a write.
    """
    windows = [(limit, *_window(limit.what, limit.who, settings.SIGN_IN_WINDOW_SECONDS)) for limit in limits]
    for limit, row, ends_at in windows:
        if cache.get(_refused_key(row)):
            raise _refusal(limit, ends_at)
    for limit, row, ends_at in windows:
        try:
            row.update(
                actions=[
                    RateLimitWindow.tries.add(1),
                    RateLimitWindow.expires_at.set(datetime.fromtimestamp(ends_at, UTC)),
                ],
                condition=RateLimitWindow.tries.does_not_exist() | (RateLimitWindow.tries < limit.most),
            )
        except ConditionFailed as error:
            cache.set(_refused_key(row), True, _REFUSED_SECONDS)
            raise _refusal(limit, ends_at) from error
    return Reservation([row for _, row, _ in windows])


def _refused_key(row: RateLimitWindow) -> str:
    return f"rate-limit-refused:{row.window}"


def _refusal(limit: _Limit, ends_at: int) -> TooManyRequests:
    return TooManyRequests(f"{limit.message} Please wait and try again.", retry_after=max(1, ends_at - clock.epoch()))


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


def use_count_add(tx: Transaction, *, what: str, who: str, most: int, until: datetime) -> None:
    """Count one use of the kind `what` by `who` with the transaction, up to `most` in all.

    The transaction fails with the label "limit" when there were so many already. The counter is kept until `until`.
    """
    row = RateLimitWindow(secret_hash(f"{what} {who}"))
    actions = [RateLimitWindow.tries.add(1), RateLimitWindow.expires_at.set(until)]
    is_within = RateLimitWindow.tries.does_not_exist() | (RateLimitWindow.tries < most)
    tx.update("limit", row, actions=actions, condition=is_within)


def rate_limits_end(*, email: str, address: str, actor: Actor) -> None:
    """Count the failures of this account, of this client's IP address, or of both no longer. Either may be empty.

    The failures of the client for the account end only if both are given. Processes that have just refused a client go
    on for some seconds. Raises Forbidden without the permission ``accounts.manage``, InvalidInput (field "address").
    """
    accounts_manage_require(actor)
    if address and address_parse(address) is None:
        raise InvalidInput.field("address", "must be an IP address")
    account = email_normalise(email) if email else ""
    limits = [_Limit(what, account, 0, "") for what in ("password-account", "password-change")] if account else []
    if address:
        limits += [limit for what in _OF_A_CLIENT for limit in _client_limits(what, address, 0, "")]
    if account and address:
        limits += _client_limits("password-client-account", address, 0, "", account=account)
    tx = Transaction()
    for limit in limits:
        row, ends_at = _window(limit.what, limit.who, settings.SIGN_IN_WINDOW_SECONDS)
        expires_at = RateLimitWindow.expires_at.set(datetime.fromtimestamp(ends_at, UTC))
        tx.update(row.window, row, actions=[RateLimitWindow.tries.set(0), expires_at])
        cache.delete(_refused_key(row))
    audit_add(
        tx,
        actor=actor,
        action=Action.RATE_LIMIT_ENDED,
        target=f"email:{account or 'any'}",
        detail={"address": address} if address else None,
    )
    tx.commit()
