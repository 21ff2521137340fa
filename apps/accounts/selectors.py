"""Reading accounts. Other apps ask here and never import the models."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import ApiToken, Session, User
from apps.accounts.session_rows import session_rows
from controlplane.lib import clock
from controlplane.lib.errors import NotFound


def user_get(user_id: str) -> User | None:
    """The person with this id, read consistently (one read), or None."""
    return User.find(user_id)


def user_by_email(email: str) -> User | None:
    """The person with this address in any spelling of its case, read consistently (two reads), or None."""
    return User.find_by_email(email)


def api_token_list(user_id: str) -> list[ApiToken]:
    """A person's tokens, newest first, from an index that lags by moments. `user_id` and the listed attributes only."""
    return list(ApiToken.by_user.query(user_id, scan_index_forward=False))


def api_token_get(token_id: str) -> ApiToken:
    """The token with this id (two calls; it is found from a moment after it was made). Raises NotFound."""
    found = next(iter(ApiToken.by_id.query(token_id, limit=1)), None)
    token = ApiToken.find(found.token_hash) if found else None
    if token is None:
        raise NotFound("There is no such API token.")
    return token


@dataclass(frozen=True)
class SessionView:
    """A session without what it holds. `session_id` is the hash by which services find it; it opens nothing.

    `device_id` is for its person to name it by. Times are texts as `controlplane.lib.clock` writes them.
    """

    session_id: str
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
    """A person's sessions that have not expired, newest first (two calls).

    One that was made a moment ago may be missing; one that has ended is never there.
    """
    now = clock.now()
    rows = (row for row in session_rows().of_user(user_id) if row.expires_at > now)
    return [_session_view(row) for row in rows]


def _session_view(row: Session) -> SessionView:
    return SessionView(
        session_id=row.session_id,
        device_id=row.device_id or "",
        user_id=row.user_id or "",
        provider=row.provider,
        device=row.device,
        address=row.address,
        region=row.region,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at or row.created_at,
        expires_at=row.expires_at,
    )
