"""Reading sessions, in the table ``sessions`` or in this process's memory (setting SESSION_STORE)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings

from apps.accounts.models import (
    Session,
    User,
    secret_hash,
    session_memory,
    session_signs_in,
    session_token_user,
    sessions_in_memory,
)
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import id_moment
from controlplane.nosql.listing import Listing, ListingPage, Place, place_decode
from controlplane.nosql.record import find_together

_BY_USER = Listing(Session, Session.by_user, descending=True, look=100)
# The total of a list counts no further: of a user with more sessions it is a lower bound.
COUNT_AT_MOST = 200
# How far the clocks of two processes may differ.
_SKEW = timedelta(minutes=5)
# The id of a session's device and `created_at` are made at the same time, the id a moment later.
_DEVICE_SKEW = timedelta(minutes=1)


def session_find(token_hash: str) -> Session | None:
    """The session whose token has this hash, expired or not, read consistently (one call at most), or None."""
    return session_memory.find(token_hash) if sessions_in_memory() else Session.find(token_hash)


def session_find_with_user(token: str) -> tuple[Session | None, User | None]:
    """The session of a token, expired or not, and its user, read consistently; either may be None.

    It costs one call if the token names its user, as those of signed-in users do. The user is the one whom the token
    or else the session names: compare.
    """
    token_hash, user_id = secret_hash(token), session_token_user(token)
    if user_id is None or sessions_in_memory():
        session = session_find(token_hash)
        user_id = user_id or (session.user_id if session else None)
        return session, User.find(user_id) if user_id else None
    return tuple(find_together((Session, token_hash), (User, user_id)))  # type: ignore[return-value]


def session_find_by_device(user_id: str, device_id: str) -> Session | None:
    """A user's session by the public id of its device, expired or not (two calls), or None.

    The id is as old as the session, so only sessions of the same minute are read, however many there are.
    """
    try:
        moment = id_moment(device_id)
        first, last = (clock.timestamp(moment + skew) for skew in (-_DEVICE_SKEW, _DEVICE_SKEW))
    except (ValueError, OverflowError):
        return None
    if sessions_in_memory():
        sessions = session_memory.of_user(user_id)
    else:
        entries = Session.by_user.query(user_id, Session.created_at.between(first, last))
        sessions = Session.find_many(entry.token_hash for entry in entries)
    return next((session for session in sessions if session.device_id == device_id), None)


@frozen
class SessionView:
    """A session without its data. `token_hash` names it to services, and opens nothing.

    `device_id` names it to its user. `user_info` is empty in sessions of earlier versions. Times are texts as
    `controlplane.lib.clock` writes them.
    """

    token_hash: str
    device_id: str
    user_id: str
    subject: str | None
    provider: str | None
    device: str | None
    address: str | None
    region: str | None
    created_at: str
    last_seen_at: str
    expires_at: datetime
    user_info: Mapping[str, str | None]


@frozen
class SessionPage:
    """A page of a user's sessions, newest first. `total` counts those on all pages; it may be a lower bound."""

    sessions: list[SessionView]
    total: int
    total_is_lower_bound: bool
    next_cursor: str | None


def session_list(user_id: str, *, limit: int = 20, cursor: str | None = None) -> SessionPage:
    """A page of the sessions that sign this user in. One that was made a moment ago may be missing.

    A page may be shorter than `limit` and still have a next one. Raises InvalidInput (field "cursor").
    """
    scope = f"sessions:{user_id}"
    start = place_decode(scope, cursor)
    user = User.find(user_id)
    if user is None:
        return SessionPage([], 0, False, None)
    page = _page(user, limit=limit, start=start)
    counted = page if start is None and page.next is None else _page(user, limit=COUNT_AT_MOST)
    return SessionPage(
        sessions=[_session_view(session) for session in page.records],
        total=len(counted.records),
        total_is_lower_bound=counted.next is not None,
        next_cursor=page.next_cursor(scope),
    )


def session_view(token_hash: str) -> SessionView | None:
    """One session as lists show it, read consistently, or None."""
    session = session_find(token_hash)
    return _session_view(session) if session else None


def _page(user: User, *, limit: int, start: Place | None = None) -> ListingPage[Session]:
    """A page of the user's sessions. It does not read those that are too old to be valid, although their rows exist."""
    now = clock.now()
    oldest = now - timedelta(seconds=settings.SESSION_COOKIE_AGE)
    if user.sessions_ended_at:
        oldest = max(oldest, clock.parse_timestamp(user.sessions_ended_at))
    since = clock.timestamp(oldest - _SKEW)

    def valid(session: Session) -> bool:
        return session_signs_in(session, user, now=now)

    if sessions_in_memory():
        return _page_in_memory([found for found in session_memory.of_user(user.user_id) if valid(found)], limit, start)
    within = Session.created_at >= since
    return _BY_USER.page([user.user_id], limit=limit, keep=valid, within=within, start=start)


def _page_in_memory(sessions: list[Session], limit: int, start: Place | None) -> ListingPage[Session]:
    if start:
        last = (start["created_at"], start["token_hash"])
        sessions = [session for session in sessions if (session.created_at, session.token_hash) < last]
    rest = _BY_USER.place_of(sessions[limit - 1]) if len(sessions) > limit else None
    return ListingPage(sessions[:limit], next=rest, previous=start)


def _session_view(session: Session) -> SessionView:
    return SessionView(
        token_hash=session.token_hash,
        device_id=session.device_id or "",
        user_id=session.user_id or "",
        subject=session.subject,
        provider=session.provider,
        device=session.device,
        address=session.address,
        region=session.region,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at or session.created_at,
        expires_at=session.expires_at,
        user_info=session.user_info or {},
    )
