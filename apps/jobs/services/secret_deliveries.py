"""Secrets for an attempt of a job: what its definition names, in the answers to the start and to the pipeline file."""

import hashlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from apps.jobs.models import Job
from apps.jobs.policies import attempt_require
from apps.jobs.services.losses import start_fail
from apps.jobs.services.transitions import attempt_fence
from apps.jobs.states import Status
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Unprocessable
from controlplane.lib.frozen import frozen
from controlplane.nosql.transaction import Transaction, TransactionFailed

if TYPE_CHECKING:
    from apps.secrets.services.deliveries import Attempt


@frozen
class Channel:
    """How secrets reach the agent of an attempt.

    `public_key` is the X25519 key that the agent made for this attempt, in base64; None if the agent is too old to
    receive secrets. `targets` are what the agent may deploy to.
    """

    public_key: str | None
    targets: Collection[str]


def secrets_named(definition: Mapping[str, Any] | None) -> list[str]:
    """The names of the secrets that a definition asks for."""
    uses = (definition or {}).get("secrets") or ()
    return [use if isinstance(use, str) else str(use["name"]) for use in uses]


def start_secrets(*, agent: Actor, job: Job, attempt: int, channel: Channel) -> str | None:
    """The secrets of an attempt whose definition its start returns; None if it names none.

    If the job cannot get them, it fails. Raises Conflict with code ``stale_attempt`` then, and as `attempt_secrets`.
    """
    try:
        return attempt_secrets(agent=agent, job=job, attempt=attempt, definition=job.definition, channel=channel)
    except Unprocessable as error:
        started = attempt_require(Job.find(job.job_id), agent_id=agent.id, attempt=attempt)
        start_fail(job=started, message=error.message)
        raise attempt_stale() from error


def definition_secrets(
    *, agent: Actor, job_id: str, attempt: int, definition: Mapping[str, Any], channel: Channel
) -> str | None:
    """The secrets of an attempt whose agent has read its definition from the repository; None if it names none.

    Raises as `attempt_secrets`: the agent then reports that the job has failed.
    """
    if not secrets_named(definition):
        return None
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    return attempt_secrets(agent=agent, job=job, attempt=attempt, definition=definition, channel=channel)


def attempt_secrets(
    *, agent: Actor, job: Job, attempt: int, definition: Mapping[str, Any] | None, channel: Channel
) -> str | None:
    """The secrets that the definition names, encrypted for the agent of a running attempt; None if it names none.

    An attempt gets them under one key of its agent: the answer to a repeated request is lost to all others. One query
    and one read for each secret, and one transaction that also records each delivery.

    Raises Unprocessable with code ``secrets_missing``, after recording that too; Conflict with code ``stale_attempt``
    or ``secrets_delivered``; and InvalidInput for the key.
    """
    names = secrets_named(definition)
    if not names:
        return None
    # Few jobs name secrets, and a cold start loads nothing of them.
    from apps.secrets.services.deliveries import SecretsMissing, delivery_refuse, public_key_read, secrets_deliver

    receiver = _receiver(job, attempt, definition or {}, channel)
    try:
        if channel.public_key is None:
            raise SecretsMissing("The job names secrets, which its agent is too old to receive. Update the agent.")
        tx = Transaction()
        key = public_key_read(channel.public_key)
        delivery = secrets_deliver(tx, agent=agent, attempt=receiver, names=names, public_key=key)
    except SecretsMissing as error:
        delivery_refuse(agent=agent, attempt=receiver, names=names, reason=error.message)
        raise
    delivery_commit(tx, agent=agent, job=job, attempt=attempt, key=key)
    delivery.note_use()
    return delivery.encrypted


def delivery_commit(tx: Transaction, *, agent: Actor, job: Job, attempt: int, key: bytes) -> None:
    """Commit what records a delivery to a running attempt, which gets all under one key of its agent.

    Raises Conflict with code ``stale_attempt`` or ``secrets_delivered``.
    """
    mark = f"{attempt}#{hashlib.sha256(key).hexdigest()[:32]}"
    is_first_key = Job.secrets_key.does_not_exist() | (Job.secrets_key == mark)
    tx.update(
        "job",
        Job(job.job_id),
        actions=[Job.secrets_key.set(mark)],
        condition=attempt_fence(agent.id, attempt)
        & (Job.status == Status.RUNNING)
        & (is_first_key | ~Job.secrets_key.startswith(f"{attempt}#")),
    )
    try:
        tx.commit()
    except TransactionFailed:
        current = attempt_require(Job.find(job.job_id), agent_id=agent.id, attempt=attempt)
        if current.status != Status.RUNNING or current.secrets_key == mark:
            raise attempt_stale() from None
        raise Conflict(
            "This attempt has got its secrets already, under another key. Stop it.", code=ErrorCode.SECRETS_DELIVERED
        ) from None


def _receiver(job: Job, attempt: int, definition: Mapping[str, Any], channel: Channel) -> "Attempt":
    from apps.jobs.selectors.job_origin import job_origin
    from apps.secrets.services.deliveries import Attempt
    from apps.secrets.states import Recipient

    origin = job_origin(job)
    return Attempt(
        job_id=str(job.job_id),
        number=attempt,
        run_id=str(job.run_id),
        recipient=Recipient(
            pipeline=str(job.pipeline),
            branch=origin.branch,
            environment=definition.get("environment"),
            is_proposed=origin.is_proposed,
            is_from_fork=origin.is_from_fork,
        ),
        targets=channel.targets,
    )


def attempt_stale() -> Conflict:
    """The error for an attempt that gets nothing any more."""
    return Conflict("This attempt of the job is not running. Stop it.", code=ErrorCode.STALE_ATTEMPT)
