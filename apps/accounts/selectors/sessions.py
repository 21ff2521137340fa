"""Reading sessions, in the table ``sessions`` or in this process's memory (setting SESSION_STORE)."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import (
    Session,
    User,
    secret_hash,
    session_memory,
    session_token_user,
    sessions_in_memory,
)
from controlplane.lib import clock
from controlplane.nosql.record import find_together


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


def sessions_of_user(user_id: str) -> list[Session]:
    """A user's sessions, expired ones too, newest first (two calls).

    One that was made a moment ago may be missing; one that has ended is never there.
    """
    if sessions_in_memory():
        return session_memory.of_user(user_id)
    keys = [entry.token_hash for entry in Session.by_user.query(user_id, scan_index_forward=False)]
    found = {session.token_hash: session for session in Session.find_many(keys)}
    return [found[key] for key in keys if key in found]


@dataclass(frozen=True)
class SessionView:
    """A session without its data. `token_hash` names it to services, and opens nothing.

    `device_id` names it to its user. Times are texts as `controlplane.lib.clock` writes them.
    """

    token_hash: str
    device_id: str
    user_id: str
    provider: str | None
    device: str | None
    address: str | None
    region: str | None
    created_at: str
    last_seen_at: str
    expires_at: datetime


def session_list(user_id: str) -> list[SessionView]:
    """A user's sessions that have not expired, as `sessions_of_user` finds them."""
    now = clock.now()
    return [_session_view(session) for session in sessions_of_user(user_id) if session.expires_at > now]


def _session_view(session: Session) -> SessionView:
    return SessionView(
        token_hash=session.token_hash,
        device_id=session.device_id or "",
        user_id=session.user_id or "",
        provider=session.provider,
        device=session.device,
        address=session.address,
        region=session.region,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at or session.created_at,
        expires_at=session.expires_at,
    )
