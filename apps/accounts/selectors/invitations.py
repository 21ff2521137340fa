"""Reading invitations."""

from django.utils.crypto import constant_time_compare

from apps.accounts.models import Invitation, invitation_key, invitation_token_key, secret_hash
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound


def invitation_by_token(token: str) -> Invitation:
    """The open invitation with this token, read consistently (one read).

    Raises NotFound ``invitation_invalid`` or ``invitation_expired``.
    """
    key = invitation_token_key(token)
    if key is None:
        raise invitation_invalid()
    return invitation_get(key, token_hash=secret_hash(token))


def invitation_get(address_key: str, *, token_hash: str) -> Invitation:
    """The open invitation with this key whose token has this hash. Reads and raises as `invitation_by_token`."""
    invitation = Invitation.find(address_key)
    if invitation is None or not constant_time_compare(invitation.token_hash, token_hash):
        raise invitation_invalid()
    if invitation.expires_at <= clock.now():
        raise NotFound("This invitation has expired. Ask for a new one.", code=ErrorCode.INVITATION_EXPIRED)
    return invitation


def invitation_by_email(email: str) -> Invitation | None:
    """The invitation of an address that `email_normalise` has returned, expired or not, read consistently, or None."""
    invitation = Invitation.find(invitation_key(email))
    return invitation if invitation is not None and invitation.email == email else None


def invitation_invalid() -> NotFound:
    """The error for an invitation that does not exist."""
    return NotFound(
        "This invitation is unknown, used, revoked or replaced by a later one. If you have accepted it, sign in. "
        "Otherwise ask for a new one.",
        code=ErrorCode.INVITATION_INVALID,
    )
