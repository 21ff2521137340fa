"""What happens to the values of a secret. A user sets one at once; a rotation makes a pending one first.

A transaction that changes which version is current requires that the secret's record still has the versions that were
read. So of two changes at the same moment, one fails and says so.
"""

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import Secret, SecretVersion
from apps.secrets.policies import secrets_manage_require
from apps.secrets.selectors import secret_get, version_get
from apps.secrets.services.values import fingerprint_of, value_decrypt, value_encrypt
from apps.secrets.states import VersionState, value_validate
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed


def secret_set(*, actor: Actor, secret_id: str, value: str) -> Secret:
    """Give the secret a new value, which jobs get from now on. The value before it is deleted.

    Setting the current value again changes nothing. Raises Forbidden, InvalidInput, NotFound, Unavailable, or Conflict
    with the code ``rotation_in_progress`` during a rotation, ``changed_meanwhile`` if another user sets it at the same
    moment.
    """
    secrets_manage_require(actor)
    value_validate(value)
    secret = secret_get(secret_id)
    if secret.pending:
        raise rotation_in_progress(secret)
    mark = fingerprint_of(secret, value)
    if mark == secret.fingerprint:
        return secret
    number = int(secret.newest) + 1
    now = clock.timestamp(clock.now())
    tx = Transaction()
    tx.put(
        "version",
        SecretVersion(
            secret_id,
            number,
            state=VersionState.CURRENT.value,
            encrypted=value_encrypt(value, secret_id=secret_id, number=number),
            fingerprint=mark,
            created_at=now,
            created_by=actor.name,
        ),
    )
    _become_current(tx, secret, number=number, mark=mark, actor=actor)
    _end(tx, secret_id, int(secret.current), VersionState.RETIRED, was=VersionState.CURRENT)
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_VERSION_ADDED,
        target=f"secret:{secret_id}",
        detail={"version": number, "fingerprint": f"{secret.fingerprint} → {mark}"},
    )
    try:
        tx.commit()
    except TransactionFailed:
        again = secret_get(secret_id)
        # The answer to this write was lost, or another user has set the same value.
        if again.fingerprint == mark:
            return again
        raise Conflict(
            "Another user changed this secret at the same moment. Check it and set it again.",
            code=ErrorCode.CHANGED_MEANWHILE,
        ) from None
    return secret_get(secret_id)


def version_add(*, actor: Actor, secret_id: str, value: str, rotation_id: str) -> int:
    """Add a pending version for a rotation, and return its number. Adding it again returns the same number.

    Raises Forbidden, InvalidInput, NotFound, Unavailable, or Conflict with the code ``rotation_in_progress`` when
    another rotation has a pending version, ``changed_meanwhile`` if the secret changes at the same moment.
    """
    secrets_manage_require(actor)
    value_validate(value)
    secret = secret_get(secret_id)
    if secret.pending:
        return _pending_of(secret, rotation_id)
    number = int(secret.newest) + 1
    mark = fingerprint_of(secret, value)
    tx = Transaction()
    tx.put(
        "version",
        SecretVersion(
            secret_id,
            number,
            state=VersionState.PENDING.value,
            encrypted=value_encrypt(value, secret_id=secret_id, number=number),
            fingerprint=mark,
            rotation_id=rotation_id,
            created_at=clock.timestamp(clock.now()),
            created_by=actor.name,
        ),
    )
    tx.update(
        "secret",
        secret,
        actions=[Secret.pending.set(number), Secret.newest.set(number)],
        condition=(Secret.newest == secret.newest) & Secret.pending.does_not_exist(),
    )
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_VERSION_ADDED,
        target=f"secret:{secret_id}",
        detail={"version": number, "fingerprint": mark, "rotation": rotation_id},
    )
    try:
        tx.commit()
    except TransactionFailed:
        again = secret_get(secret_id)
        if again.pending:
            return _pending_of(again, rotation_id)
        raise Conflict("The secret was changed at the same moment.", code=ErrorCode.CHANGED_MEANWHILE) from None
    return number


def version_activate_add(tx: Transaction, *, actor: Actor, secret: Secret) -> None:
    """Add to the transaction: the pending version becomes current, and the current one the previous one.

    The transaction fails if the secret has changed since `secret` was read. Raises Conflict if it has no pending
    version.
    """
    if not secret.pending:
        raise Conflict(f"The secret {secret.secret_id} has no pending version.", code=ErrorCode.CHANGED_MEANWHILE)
    secret_id, number = str(secret.secret_id), int(secret.pending)
    version = version_get(secret_id, number)
    _become_current(tx, secret, number=number, mark=str(version.fingerprint), actor=actor)
    for one, was, state in (
        (number, VersionState.PENDING, VersionState.CURRENT),
        (int(secret.current), VersionState.CURRENT, VersionState.PREVIOUS),
    ):
        tx.update(
            f"version {one}",
            SecretVersion(secret_id, one),
            actions=[SecretVersion.state.set(state.value)],
            condition=SecretVersion.state == was.value,
        )
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_VERSION_ACTIVATED,
        target=f"secret:{secret_id}",
        detail={"version": number, "fingerprint": f"{secret.fingerprint} → {version.fingerprint}"},
        label="audit of the version",
    )


def version_revert(*, actor: Actor, secret_id: str, number: int) -> None:
    """Delete the value of a pending version, which no longer becomes current. Doing it again changes nothing.

    Raises Forbidden, NotFound, or Conflict if the version is not pending.
    """
    action = Action.SECRET_VERSION_REVERTED
    _version_end(actor, secret_id, number, VersionState.REVERTED, action, was=VersionState.PENDING)


def version_retire(*, actor: Actor, secret_id: str, number: int) -> None:
    """Delete the value of a previous version, since no system needs it any more. Doing it again changes nothing.

    Raises Forbidden, NotFound, or Conflict if the version is not the previous one.
    """
    action = Action.SECRET_VERSION_RETIRED
    _version_end(actor, secret_id, number, VersionState.RETIRED, action, was=VersionState.PREVIOUS)


def version_value(*, secret_id: str, number: int) -> str:
    """The value of a version, for rotators and targets. Raises NotFound, Conflict, DecryptionFailed, Unavailable."""
    return value_decrypt(version_get(secret_id, number))


def rotation_in_progress(secret: Secret) -> Conflict:
    """The error for a change of a secret that is being rotated."""
    return Conflict(
        f"The secret {secret.secret_id} is being rotated. Wait until the rotation has ended, or stop it first.",
        code=ErrorCode.ROTATION_IN_PROGRESS,
    )


def _pending_of(secret: Secret, rotation_id: str) -> int:
    version = version_get(str(secret.secret_id), int(secret.pending))
    if version.rotation_id != rotation_id:
        raise rotation_in_progress(secret)
    return int(version.number)


def _become_current(tx: Transaction, secret: Secret, *, number: int, mark: str, actor: Actor) -> None:
    tx.update(
        "secret",
        secret,
        actions=[
            Secret.current.set(number),
            Secret.newest.set(max(number, int(secret.newest))),
            Secret.pending.remove(),
            Secret.fingerprint.set(mark),
            Secret.changed_at.set(clock.timestamp(clock.now())),
            Secret.changed_by.set(actor.name),
        ],
        condition=(Secret.current == secret.current)
        & (Secret.newest == secret.newest)
        & (Secret.pending == secret.pending if secret.pending else Secret.pending.does_not_exist()),
    )


def _version_end(
    actor: Actor, secret_id: str, number: int, state: VersionState, action: Action, *, was: VersionState
) -> None:
    secrets_manage_require(actor)
    version = version_get(secret_id, number)
    if version.state in (state, VersionState.DELETED):
        return
    tx = Transaction()
    _end(tx, secret_id, number, state, was=was)
    if was == VersionState.PENDING:
        tx.update(
            "secret",
            secret_get(secret_id),
            actions=[Secret.pending.remove()],
            condition=Secret.pending == number,
        )
    detail: dict[str, str | int | None] = {"version": number, "fingerprint": version.fingerprint}
    audit_add(tx, actor=actor, action=action, target=f"secret:{secret_id}", detail=detail)
    try:
        tx.commit()
    except TransactionFailed:
        if version_get(secret_id, number).state not in (state, VersionState.DELETED):
            raise Conflict(
                f"Version {number} of the secret {secret_id} is not {was.value}.", code=ErrorCode.CHANGED_MEANWHILE
            ) from None


def _end(tx: Transaction, secret_id: str, number: int, state: VersionState, *, was: VersionState) -> None:
    tx.update(
        f"version {number}",
        SecretVersion(secret_id, number),
        actions=[
            SecretVersion.state.set(state.value),
            SecretVersion.encrypted.remove(),
            SecretVersion.ended_at.set(clock.timestamp(clock.now())),
        ],
        condition=SecretVersion.state == was.value,
    )
