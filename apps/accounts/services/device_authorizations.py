"""Device authorizations: a program gets an API token that a user has allowed in a browser (RFC 8628).

The program never sees a password, and the browser never sees the token.
"""

from datetime import timedelta

from django.utils.crypto import constant_time_compare

from apps.accounts.models import ApiToken, DeviceAuthorization, User, secret_hash
from apps.accounts.models.device_authorizations import device_code_key, device_code_new, user_code_key, user_code_new
from apps.accounts.policies import role_permissions, tokens_manage_require
from apps.accounts.services.api_tokens import MAX_NAME, api_token_create
from apps.accounts.services.rate_limits import device_start_count
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

LIFETIME = timedelta(minutes=10)
# Seconds between two questions of the program.
POLL_SECONDS = 5
TOKEN_LIFETIME = timedelta(days=90)
_CREATE_ATTEMPTS = 5


@frozen
class StartedAuthorization:
    """What the program gets: its own secret code, and the one that the user types within `expires_in` seconds."""

    device_code: str
    user_code: str
    expires_in: int


def device_authorization_create(*, name: str, address: str) -> StartedAuthorization:
    """Ask for an API token on behalf of a user who is not known yet. `name` is what the program calls itself.

    Raises InvalidInput (field "name"), and TooManyRequests for a client that asks very often.
    """
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must have 1 to {MAX_NAME} printable characters")
    device_start_count(address=address)
    now = clock.now()
    for _ in range(_CREATE_ATTEMPTS):
        user_code = user_code_new()
        key = str(user_code_key(user_code))
        device_code = device_code_new(key)
        authorization = DeviceAuthorization(
            key,
            device_hash=secret_hash(device_code),
            name=name,
            address=address,
            created_at=clock.timestamp(now),
            # DynamoDB's TTL has whole seconds.
            expires_at=(now + LIFETIME).replace(microsecond=0),
        )
        # The write may have been repeated after a lost answer.
        free = DeviceAuthorization.code_key.does_not_exist() | (DeviceAuthorization.expires_at < now)
        try:
            authorization.save(condition=free | (DeviceAuthorization.device_hash == authorization.device_hash))
        except ConditionFailed:
            continue
        return StartedAuthorization(device_code, user_code, int(LIFETIME.total_seconds()))
    raise Conflict("No code is free at the moment. Try again.", code=ErrorCode.CHANGED_MEANWHILE)


def device_authorization_decide(*, authorization: DeviceAuthorization, is_allowed: bool, actor: Actor) -> None:
    """Allow or deny what a program asks for. The program then gets a token of the actor, or is refused.

    Raises Forbidden unless the actor may create tokens of their own, and NotFound ``device_code_invalid`` if it has
    been decided or has expired meanwhile.
    """
    tokens_manage_require(actor, str(actor.person_id))
    decision = "allowed" if is_allowed else "denied"
    transaction = Transaction()
    transaction.update(
        "authorization",
        DeviceAuthorization(authorization.code_key),
        actions=[DeviceAuthorization.decision.set(decision), DeviceAuthorization.user_id.set(str(actor.person_id))],
        condition=(DeviceAuthorization.device_hash == authorization.device_hash)
        & DeviceAuthorization.decision.does_not_exist()
        & (DeviceAuthorization.expires_at > clock.now()),
    )
    audit_add(
        transaction,
        actor=actor,
        action=Action.DEVICE_ALLOWED if is_allowed else Action.DEVICE_DENIED,
        target=f"user:{actor.person_id}",
        detail={"name": authorization.name, "address": authorization.address},
    )
    try:
        transaction.commit()
    except TransactionFailed as error:
        raise device_code_unknown() from error


def device_authorization_redeem(*, device_code: str) -> tuple[ApiToken, str]:
    """The API token that a user has allowed the program that has this code, and its text. It works once.

    If the answer is lost, the program asks the user again, and the token is in the user's list as one never used.

    Raises Conflict ``authorization_pending`` until the user has decided; NotFound ``device_code_invalid``; Conflict
    ``access_denied``, and what `api_token_create` raises.
    """
    key = device_code_key(device_code)
    found = DeviceAuthorization.find(key) if key else None
    if found is None or not constant_time_compare(found.device_hash, secret_hash(device_code)):
        raise device_code_unknown()
    if found.decision == "denied":
        raise Conflict("The user has denied it.", code=ErrorCode.ACCESS_DENIED)
    if found.used_by or found.expires_at <= clock.now():
        raise device_code_unknown()
    if not found.decision:
        raise Conflict(
            f"The user has not decided yet. Ask again in {POLL_SECONDS} s.", code=ErrorCode.AUTHORIZATION_PENDING
        )
    user = User.find(str(found.user_id))
    if user is None:
        raise device_code_unknown()
    _use_up(found)
    return api_token_create(
        user=user,
        name=found.name,
        expires_at=clock.now() + TOKEN_LIFETIME,
        actor=Actor("user", user.user_id, user.name, role_permissions(user.role)),
    )


def _use_up(authorization: DeviceAuthorization) -> None:
    """Mark it as used, so that of two requests with its code one gets a token."""
    request, used_by = new_id(), DeviceAuthorization.used_by
    is_same = DeviceAuthorization.device_hash == authorization.device_hash
    try:
        # The write may have been repeated after a lost answer.
        DeviceAuthorization(authorization.code_key).update(
            actions=[used_by.set(request)], condition=is_same & (used_by.does_not_exist() | (used_by == request))
        )
    except ConditionFailed as error:
        raise device_code_unknown() from error


def device_code_unknown() -> NotFound:
    """The error for a code that does not exist, or not any more."""
    return NotFound(
        "This code is unknown, used, or older than 10 minutes. Begin again.", code=ErrorCode.DEVICE_CODE_INVALID
    )
