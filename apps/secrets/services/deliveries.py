"""Giving secrets to an attempt of a job: which ones it may get, encrypted so that only its agent can read them."""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import Secret
from apps.secrets.selectors import secrets_named, version_get
from apps.secrets.services.values import value_decrypt
from apps.secrets.states import Recipient
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, NotFound, Unprocessable
from controlplane.lib.frozen import frozen
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction

_KEY_BYTES = 32
# The time of the last use is written at most this often, so that many jobs at once do not all write the same item.
_USE_NOTED_AFTER = timedelta(minutes=1)


class SecretsMissing(Unprocessable):
    """The job names secrets that it cannot get. The message says which, and why."""

    code = ErrorCode.SECRETS_MISSING


@frozen
class Attempt:
    """The attempt that gets secrets. `targets` are what its agent may deploy to."""

    job_id: str
    number: int
    run_id: str
    recipient: Recipient
    targets: Collection[str]

    def detail(self) -> dict[str, str | int | None]:
        """The attempt as details of an audit event."""
        return {
            "job": self.job_id,
            "attempt": self.number,
            "run": self.run_id,
            "pipeline": self.recipient.pipeline,
            "environment": self.recipient.environment,
        }


@frozen
class Delivery:
    """Secrets for an attempt: `encrypted` is what its agent opens, in base64."""

    encrypted: str
    secrets: Sequence[Secret]

    def note_use(self) -> None:
        """Note when the secrets were last used. That may fail: the audit trail has each delivery."""
        now = clock.now()
        for secret in self.secrets:
            if secret.delivered_at and now - clock.parse_timestamp(secret.delivered_at) < _USE_NOTED_AFTER:
                continue
            with suppress(ApplicationError, ConditionFailed):
                secret.update([Secret.delivered_at.set(clock.timestamp(now))], condition=Secret.name.exists())


def secrets_deliver(
    tx: Transaction, *, agent: Actor, attempt: Attempt, names: Sequence[str], public_key: bytes
) -> Delivery:
    """The current values of these secrets for the attempt. Their audit events are added to the transaction.

    Of several secrets of a name, the attempt gets the one with the narrowest scope that includes its job. The caller
    must not hand the result out before the transaction is committed, and the transaction must require that the agent
    has the attempt. `public_key` is a fresh X25519 key of the agent: 32 bytes.

    Raises SecretsMissing; InvalidInput for the key; Unavailable when KMS does not answer.
    """
    found = secrets_named(names)
    chosen = [_chosen(name, found[name], attempt) for name in names]
    values = [(secret, _value(secret)) for secret in chosen]
    for number, secret in enumerate(chosen):
        audit_add(
            tx,
            actor=agent,
            action=Action.SECRET_DELIVERED,
            target=f"secret:{secret.secret_id}",
            detail={"version": int(secret.current), "fingerprint": secret.fingerprint, **attempt.detail()},
            label=f"audit of secret {number}",
        )
    document = {"secrets": [{"name": str(secret.name), "value": value} for secret, value in values]}
    encrypted = document_encrypt(document, purpose="secrets", agent=agent, attempt=attempt, public_key=public_key)
    return Delivery(encrypted, chosen)


def secret_take(tx: Transaction, *, agent: Actor, attempt: Attempt, name: str, use: str) -> tuple[str, str]:
    """The id and the current value of a secret that the agent itself needs for the attempt; steps never get it.

    As with `secrets_deliver`, its audit event is added to the transaction, with the `use`. Raises SecretsMissing, and
    Unavailable when KMS does not answer.
    """
    found = secrets_named([name])
    secret = _chosen(name, found[name], attempt)
    value = _value(secret)
    audit_add(
        tx,
        actor=agent,
        action=Action.SECRET_DELIVERED,
        target=f"secret:{secret.secret_id}",
        detail={"version": int(secret.current), "fingerprint": secret.fingerprint, **attempt.detail(), "use": use},
        label="audit of the secret",
    )
    return str(secret.secret_id), value


def document_encrypt(
    document: Mapping[str, object], *, purpose: str, agent: Actor, attempt: Attempt, public_key: bytes
) -> str:
    """The document encrypted to the key of an attempt, in base64. What it is for is part of the encryption.

    Raises InvalidInput for the key.
    """
    info = "\0".join((f"hybrid-ci {purpose}", agent.id, attempt.job_id, str(attempt.number))).encode()
    return _encrypt(document, public_key=public_key, info=info)


def delivery_refuse(*, agent: Actor, attempt: Attempt, names: Sequence[str], reason: str) -> None:
    """Record that an attempt did not get the secrets that its job names."""
    tx = Transaction()
    audit_add(
        tx,
        actor=agent,
        action=Action.SECRET_DELIVERY_REFUSED,
        target=f"job:{attempt.job_id}",
        result="refused",
        detail={**attempt.detail(), "secrets": ", ".join(names), "reason": reason},
    )
    tx.commit()


def public_key_read(text: str) -> bytes:
    """The agent's public key from a request. Raises InvalidInput for the field ``secrets_key``."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise InvalidInput.field("secrets_key", "must be an X25519 public key of 32 bytes in base64")
    return key


def _chosen(name: str, candidates: Sequence[Secret], attempt: Attempt) -> Secret:
    fitting = [secret for secret in candidates if secret.scope.includes(attempt.recipient)]
    if not fitting:
        raise SecretsMissing(_missing(name, attempt, exists=bool(candidates)))
    secret = max(fitting, key=lambda one: (one.scope.rank, str(one.secret_id)))
    if secret.environment and secret.environment not in attempt.targets:
        raise SecretsMissing(
            f"The secret {name} is for the environment {secret.environment}, to which this agent may not deploy. "
            f"Run the job on an agent with the deployment target {secret.environment}."
        )
    return secret


def _missing(name: str, attempt: Attempt, *, exists: bool) -> str:
    job = attempt.recipient
    where = [f"pipeline {job.pipeline}", f"branch {job.branch}" if job.branch else "no branch"]
    where.append(f"environment {job.environment}" if job.environment else "no environment")
    if job.is_from_fork:
        where.append("a pull request from a fork")
    elif job.is_proposed:
        where.append("a pull request")
    if not exists:
        return f"There is no secret {name}. Create it, or take the name out of the job's `secrets`."
    return (
        f"No secret {name} has a scope that includes this job ({', '.join(where)}). Create one for it, or take the "
        "name out of the job's `secrets`."
    )


def _value(secret: Secret) -> str:
    """The secret's current value. A change at the same moment may have ended the version that was read."""
    try:
        return value_decrypt(version_get(str(secret.secret_id), int(secret.current)))
    except (Conflict, NotFound):
        raise SecretsMissing(f"The secret {secret.name} was changed at this moment. Run the job again.") from None
    except DecryptionFailed:
        raise SecretsMissing(
            f"The value of the secret {secret.name} cannot be decrypted: another key encrypted it, or its record was "
            "changed. Set the value again."
        ) from None


def _encrypt(document: Mapping[str, object], *, public_key: bytes, info: bytes) -> str:
    """The document encrypted by HPKE (RFC 9180), so that only the owner of the private key reads it."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    try:
        encrypted = suite.encrypt(json.dumps(document).encode(), X25519PublicKey.from_public_bytes(public_key), info)
    except ValueError:
        # A point of small order gives a shared secret that everybody knows.
        raise InvalidInput.field("secrets_key", "must be a valid X25519 public key") from None
    return base64.b64encode(encrypted).decode()
