"""The services for users: create, cancel and retry jobs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.audit.actions import Action
from apps.jobs import policies
from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.models import OPEN, IdempotencyKey, Job
from apps.jobs.models.job import created_day
from apps.jobs.selectors.jobs import job_get
from apps.jobs.services.queue import entry_of, set_open
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import Move, cancel_request_commit, move_commit
from apps.jobs.states import FINAL, Status
from apps.pipelines.definitions import DEFAULT_RETRIES
from apps.pipelines.refs import ref_validate, repository_allowed_require
from apps.pipelines.selectors import Pipeline, pipeline_definition, pipeline_get
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unprocessable
from controlplane.lib.ids import id_moment, new_id
from controlplane.lib.work import subject_note
from controlplane.nosql.transaction import Transaction, TransactionConflicted, TransactionFailed

IDEMPOTENCY_LIFETIME = timedelta(hours=24)

# DynamoDB's items have at most 409,600 bytes. The rest is for later updates: at most 100 steps with names of 400 bytes
# and 150 bytes of results each, an error message of 4 KB, and about 1 KB of everything else.
MAX_NEW_JOB_BYTES = 256 * 1024

# How often a cancellation is tried when the job changes meanwhile.
_TRIES = 5


def job_create(
    *,
    actor: Actor,
    pipeline: str | None = None,
    git_ref: str | None = None,
    env: Mapping[str, str] | None = None,
    priority: int = DEFAULT_PRIORITY,
    labels: Sequence[str] = (),
    idempotency_key: str | None = None,
) -> Job:
    """Queue a job of a pipeline (None: the default pipeline) for a ref (None: the pipeline's default ref).

    The job requires the pipeline's labels and `labels`. The same `idempotency_key` within 24 hours returns the job that
    the first request created.

    Raises NotFound for an unknown pipeline, InvalidInput for an invalid ref or a job that is too large,
    TooManyRequests when jobs wait under too many different sets of labels, Unprocessable when the key was used for
    another payload, Conflict while a request with the same key is being processed.
    """
    policies.job_create_require(actor)
    if git_ref is not None:
        ref_validate(git_ref)
    payload = {"pipeline": pipeline, "git_ref": git_ref, "env": env, "priority": priority, "labels": list(labels)}
    idempotency = _idempotency(actor, idempotency_key, payload)
    try:
        source = pipeline_get(pipeline or settings.DEFAULT_PIPELINE)
    except NotFound:
        # A repeated request gets the same answer, also if the pipeline was deleted since.
        made = IdempotencyKey.find(idempotency.key) if idempotency else None
        if idempotency is None or made is None or made.expires_at < clock.now():
            raise
        return _job_made_with(made, idempotency)
    job = _job_of(
        source,
        actor=actor,
        git_ref=git_ref or source.default_ref,
        env=dict(env or {}),
        priority=priority,
        labels=sorted({*source.labels, *labels}),
    )
    return _job_enqueue(job, actor=actor, action=Action.JOB_CREATED, idempotency=idempotency)


def job_retry(*, actor: Actor, job_id: str, idempotency_key: str | None = None) -> Job:
    """Queue a new job like the ended one. Raises NotFound, or Conflict with code ``job_not_finished``."""
    policies.job_retry_require(actor)
    old = job_get(job_id)
    if old.status not in FINAL:
        raise Conflict(f"The job has not ended yet: it is {old.status}.", code=ErrorCode.JOB_NOT_FINISHED)
    source = pipeline_get(old.pipeline)
    job = _job_of(
        source,
        actor=actor,
        git_ref=old.git_ref,
        env=old.env or {},
        priority=int(old.priority),
        labels=list(old.labels),
        retry_of=old.job_id,
    )
    return _job_enqueue(
        job,
        actor=actor,
        action=Action.JOB_RETRIED,
        idempotency=_idempotency(actor, idempotency_key, {"retry_of": job_id}),
    )


def job_cancel(*, actor: Actor, job_id: str) -> Job:
    """Cancel a waiting job, or ask the agent to cancel a running job. Cancelling again changes nothing.

    Raises NotFound, or Conflict with code ``job_finished`` when it has ended in another way.
    """
    policies.job_cancel_require(actor)
    for _ in range(_TRIES):
        job = job_get(job_id)
        if job.status == Status.CANCELLED or job.cancel_requested:
            return job
        try:
            _cancel_in_state(job, actor=actor)
        except TransactionFailed:
            # The job has changed since it was read. Its new status decides how to cancel it.
            continue
        return job_get(job_id)
    raise Conflict("The job keeps changing. Try again.", code=ErrorCode.JOB_STATE)


def _cancel_in_state(job: Job, *, actor: Actor) -> None:
    """Cancel the job as its status requires. Raises TransactionFailed when the job has changed since it was read."""
    status, attempt = Status(job.status), int(job.attempt)
    if status == Status.RUNNING:
        cancel_request_commit(job=job, actor=actor)
        return
    move_commit(
        Move(
            job=job,
            before=status,
            after=Status.CANCELLED,
            attempt=attempt,
            actor=actor,
            action=Action.JOB_CANCELLED,
            agent_id=job.agent_id or "",
            entry=entry_of(job, attempt=attempt + 1),
        )
    )


def _job_of(
    source: Pipeline,
    *,
    actor: Actor,
    git_ref: str,
    env: dict[str, str],
    priority: int,
    labels: list[str],
    retry_of: str | None = None,
) -> Job:
    """A queued job of the pipeline, not yet written. Raises InvalidInput if its repository is not allowed any more."""
    repository_allowed_require(source.repository, field="pipeline")
    job_id = new_id()
    created = id_moment(job_id)
    definition = pipeline_definition(source)
    return Job(
        job_id=job_id,
        run_id=new_id(),
        pipeline=source.name,
        repository=source.repository,
        git_ref=git_ref,
        env=env or None,
        labels=labels,
        priority=priority,
        definition=definition,
        steps=steps_of(definition) if definition else None,
        timeout=definition["timeout"] if definition else None,
        retries=definition["retries"] if definition else DEFAULT_RETRIES,
        requested_by=actor.name,
        retry_of=retry_of,
        status=Status.QUEUED,
        created_at=clock.timestamp(created),
        created_day=created_day(job_id),
        open=OPEN,
    )


def _job_enqueue(job: Job, *, actor: Actor, action: Action, idempotency: IdempotencyKey | None) -> Job:
    """Write a new job and its queue entry, or return the job that the same request created before."""
    subject_note(job_id=job.job_id)
    _size_require(job)
    set_open(labels=job.labels, pipeline=job.pipeline, actor=actor)
    move = Move(
        job=job,
        before=None,
        after=Status.QUEUED,
        attempt=0,
        actor=actor,
        action=action,
        entry=entry_of(job, attempt=1),
        detail={"pipeline": job.pipeline, "git_ref": job.git_ref, "retry_of": job.retry_of},
    )
    transaction = Transaction()
    if idempotency:
        idempotency.job_id = job.job_id
        absent = IdempotencyKey.key.does_not_exist() | (IdempotencyKey.expires_at < clock.now())
        transaction.put("idempotency", idempotency, absent)
    try:
        move_commit(move, transaction=transaction)
    except TransactionConflicted as conflict:
        if "idempotency" in conflict.conflicted:
            raise Conflict(
                "A request with this Idempotency-Key is still being processed. Try again.",
                code=ErrorCode.IDEMPOTENCY_KEY_IN_USE,
            ) from conflict
        raise
    except TransactionFailed as failure:
        made = failure.failed.get("idempotency")
        if idempotency and isinstance(made, IdempotencyKey):
            return _job_made_with(made, idempotency)
        raise
    return job


def _size_require(job: Job) -> None:
    """Raises InvalidInput with code ``job_too_large`` if the record would lack room for its later updates."""
    size = job.stored_bytes()
    if size > MAX_NEW_JOB_BYTES:
        raise InvalidInput.field(
            "env",
            f"must be shorter: the job would take {size:,} bytes with its definition, and may take "
            f"{MAX_NEW_JOB_BYTES:,}",
            code=ErrorCode.JOB_TOO_LARGE,
        )


def _job_made_with(made: IdempotencyKey, idempotency: IdempotencyKey) -> Job:
    """The job that a request with the same key created. Raises Unprocessable if that request had another payload."""
    if made.fingerprint != idempotency.fingerprint:
        raise Unprocessable(
            "This Idempotency-Key was used for other content. Send a new key.", code=ErrorCode.IDEMPOTENCY_KEY_REUSED
        )
    return job_get(made.job_id)


def _idempotency(actor: Actor, key: str | None, payload: Mapping[str, Any]) -> IdempotencyKey | None:
    if key is None:
        return None
    fingerprint = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
    return IdempotencyKey(
        key=hashlib.sha256(f"{actor.kind}:{actor.id}\n{key}".encode()).hexdigest(),
        fingerprint=fingerprint,
        expires_at=clock.now() + IDEMPOTENCY_LIFETIME,
    )
