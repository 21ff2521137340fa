"""Creating, changing and deleting secrets. `versions` has what happens to their values."""

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import SPACE, Secret, SecretVersion
from apps.secrets.policies import secrets_manage_require
from apps.secrets.selectors import secret_get, secret_versions
from apps.secrets.services.values import fingerprint, fingerprint_key_make, value_encrypt
from apps.secrets.services.versions import rotation_in_progress
from apps.secrets.states import (
    Scope,
    VersionState,
    branches_validate,
    name_validate,
    secret_id_of,
    value_validate,
)
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.nosql.transaction import Transaction, TransactionFailed

_MAX_TEXT = 500
_NAME_OF_SCOPE = 63


def secret_create(
    *,
    actor: Actor,
    name: str,
    value: str,
    scope: Scope | None = None,
    description: str | None = None,
    owner: str | None = None,
) -> Secret:
    """Create a secret with its first version. `owner`, by default the actor, answers for it.

    Raises Forbidden, InvalidInput, Unavailable, or Conflict with the code ``name_taken`` if there is a secret of this
    name with this scope.
    """
    secrets_manage_require(actor)
    scope = _scope_validate(scope or Scope())
    secret_id = secret_id_of(name_validate(name), scope)
    value_validate(value)
    # A deleted secret leaves its versions, whose numbers never come again.
    number = next((int(one.number) + 1 for one in secret_versions(secret_id, limit=1)), 1)
    now = clock.timestamp(clock.now())
    key = fingerprint_key_make(secret_id)
    print_ = fingerprint(value, secret_id=secret_id, encrypted_key=key)
    secret = Secret(
        SPACE,
        secret_id,
        name=name,
        pipeline=scope.pipeline,
        environment=scope.environment,
        branches=list(scope.branches),
        pull_requests=scope.pull_requests,
        description=_text_validate("description", description),
        owner=_text_validate("owner", owner) or actor.name,
        fingerprint_key=key,
        current=number,
        newest=number,
        fingerprint=print_,
        created_at=now,
        created_by=actor.name,
        changed_at=now,
        changed_by=actor.name,
    )
    version = SecretVersion(
        secret_id,
        number,
        state=VersionState.CURRENT.value,
        encrypted=value_encrypt(value, secret_id=secret_id, number=number),
        fingerprint=print_,
        created_at=now,
        created_by=actor.name,
    )
    tx = Transaction()
    tx.put("secret", secret)
    tx.put("version", version)
    detail = {**scope_detail(scope), "version": number, "fingerprint": print_}
    audit_add(tx, actor=actor, action=Action.SECRET_CREATED, target=f"secret:{secret_id}", detail=detail)
    try:
        tx.commit()
    except TransactionFailed:
        raise Conflict(
            f"There is already a secret {name} with this scope. Set its value instead, or choose another scope.",
            code=ErrorCode.NAME_TAKEN,
        ) from None
    return secret


def secret_change(*, actor: Actor, secret_id: str, description: str | None = None, owner: str | None = None) -> Secret:
    """Change what is said about the secret; None leaves it. Its name and its scope never change.

    Raises Forbidden, InvalidInput, NotFound.
    """
    secrets_manage_require(actor)
    secret = secret_get(secret_id)
    wanted = {
        member: text
        for member, text in (
            ("description", _text_validate("description", description)),
            ("owner", _text_validate("owner", owner)),
        )
        if text is not None and text != getattr(secret, member)
    }
    if not wanted:
        return secret
    tx = Transaction()
    tx.update(
        "secret",
        secret,
        actions=[getattr(Secret, member).set(text) for member, text in wanted.items()],
        condition=Secret.name.exists(),
    )
    detail = {member: f"{getattr(secret, member) or '–'} → {text}" for member, text in wanted.items()}
    audit_add(tx, actor=actor, action=Action.SECRET_CHANGED, target=f"secret:{secret_id}", detail=detail)
    try:
        tx.commit()
    except TransactionFailed:
        raise _gone(secret_id) from None
    return secret_get(secret_id)


def secret_delete(*, actor: Actor, secret_id: str) -> None:
    """Delete the secret and the values of all its versions. Jobs that name it fail from now on.

    Raises Forbidden, NotFound, or Conflict if it changes at the same moment.
    """
    secrets_manage_require(actor)
    secret = secret_get(secret_id)
    tx = Transaction()
    tx.delete("secret", secret, Secret.name.exists() & (Secret.newest == secret.newest))
    now = clock.timestamp(clock.now())
    for version in secret_versions(secret_id):
        if version.encrypted:
            tx.update(
                f"version {int(version.number)}",
                version,
                actions=[
                    SecretVersion.state.set(VersionState.DELETED.value),
                    SecretVersion.encrypted.remove(),
                    SecretVersion.ended_at.set(now),
                ],
            )
    # No start of a process needs it.
    from apps.secrets.services.rotation_plans import plan_remove_add

    plan_remove_add(tx, secret_id)
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_DELETED,
        target=f"secret:{secret_id}",
        detail={"version": int(secret.current), "fingerprint": secret.fingerprint},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        if error.failed.get("secret", secret) is None:
            raise _gone(secret_id) from None
        if "plan" in error.failed:
            raise rotation_in_progress(secret) from None
        raise Conflict(
            "The secret was changed at the same moment. Check it and delete it again.", code=ErrorCode.CHANGED_MEANWHILE
        ) from None


def scope_detail(scope: Scope) -> dict[str, str | int | None]:
    """A scope as details of an audit event."""
    return {
        "pipeline": scope.pipeline,
        "environment": scope.environment,
        "branches": ", ".join(scope.branches) or None,
        "pull_requests": "allowed" if scope.pull_requests else None,
    }


def _gone(secret_id: str) -> NotFound:
    return NotFound(f"There is no secret with the id “{secret_id}”.", code=ErrorCode.SECRET_NOT_FOUND)


def _scope_validate(scope: Scope) -> Scope:
    for field in ("pipeline", "environment"):
        name = getattr(scope, field)
        if name is not None and not (0 < len(name) <= _NAME_OF_SCOPE and name.isprintable()):
            raise InvalidInput.field(field, f"must be 1 to {_NAME_OF_SCOPE} characters, or left out for all")
    return Scope(
        pipeline=scope.pipeline,
        environment=scope.environment,
        branches=tuple(branches_validate(scope.branches)),
        pull_requests=scope.pull_requests,
    )


def _text_validate(field: str, text: str | None) -> str | None:
    if text is not None and len(text) > _MAX_TEXT:
        raise InvalidInput.field(field, f"must have at most {_MAX_TEXT} characters")
    return text
