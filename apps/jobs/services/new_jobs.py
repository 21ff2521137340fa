"""New jobs: their records, and the transaction that writes a job with its run, its queue entry and its audit event."""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.jobs.models import FIRST_NODE, OPEN, OPEN_RUNS, RUN, IdempotencyKey, Job, Run
from apps.jobs.models.job import created_day
from apps.jobs.selectors.jobs import job_get
from apps.jobs.services.queue import entry_of, set_open
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import Event, RunStatus, Status
from apps.notifications.selectors.targets import rules_any
from apps.pipelines.definitions import DEFAULT_RETRIES, MAIN_JOB, Definition
from apps.pipelines.refs import repository_allowed_require
from apps.pipelines.selectors import Pipeline, pipeline_parsed
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, Unprocessable
from controlplane.lib.ids import id_moment, new_id
from controlplane.lib.work import subject_note
from controlplane.nosql.transaction import Transaction, TransactionConflicted, TransactionFailed

IDEMPOTENCY_LIFETIME = timedelta(hours=24)

# DynamoDB's items have at most 409,600 bytes. The rest is for later updates: at most 100 steps with names of 400 bytes
# and 150 bytes of results each, an error message of 4 KB, and about 1 KB of everything else.
MAX_NEW_JOB_BYTES = 256 * 1024


def job_of(
    source: Pipeline,
    *,
    actor: Actor,
    git_ref: str,
    env: dict[str, str],
    priority: int,
    labels: list[str],
    retry_of: str | None = None,
    run_id: str | None = None,
    job_id: str | None = None,
) -> Job:
    """A job of the pipeline, not yet written: the first of a new run, or of `run_id`. Of a paused pipeline, it waits.

    Without `job_id` it gets a new one, which has the time of its creation.

    Raises InvalidInput if the pipeline's repository is not allowed any more.
    """
    repository_allowed_require(source.repository, field="pipeline")
    job_id = job_id or new_id()
    created = id_moment(job_id)
    parsed = pipeline_parsed(source)
    read = Definition.of(parsed.jobs[MAIN_JOB]) if parsed and not parsed.is_graph else None
    return Job(
        job_id=job_id,
        run_id=run_id or new_id(),
        node=FIRST_NODE,
        pipeline=source.name,
        repository=source.repository,
        fetch_with=source.fetch_with,
        git_ref=git_ref,
        env=env or None,
        labels=labels,
        priority=priority,
        definition=read.as_stored() if read else None,
        steps=steps_of(read.as_dict()) if read else None,
        timeout=read.timeout if read else None,
        retries=read.retries if read else DEFAULT_RETRIES,
        requested_by=actor.name,
        requested_by_id=actor.requester_id,
        announced=True if rules_any(str(source.name)) else None,
        retry_of=retry_of,
        is_defined_on_server=True if parsed and parsed.is_graph else None,
        status=Status.WAITING if source.paused_at else Status.QUEUED,
        created_at=clock.timestamp(created),
        created_day=created_day(job_id),
        open=OPEN,
    )


def deploys_only(job: Job, *, commit: str | None) -> None:
    """Have the first job of a run for a deployment read the pipeline file first, and fetch this commit, if it is given.

    A file of steps has no environment, so none of its steps may run: the report of the file says so.
    """
    if commit:
        job.commit, job.is_commit_given = commit, True
    if job.definition is not None:
        job.definition, job.steps, job.is_defined_on_server = None, None, True


def run_of(
    job: Job,
    *,
    source: Pipeline,
    event: Event,
    parameters: Mapping[str, Any] | None = None,
    reuse: bool = True,
) -> Run:
    """The run whose first job is the job, not yet written."""
    return Run(
        job.run_id,
        RUN,
        pipeline=job.pipeline,
        repository=job.repository,
        fetch_with=job.fetch_with,
        git_ref=job.git_ref,
        default_ref=source.default_ref,
        event=event,
        requested_by=job.requested_by,
        requested_by_id=job.requested_by_id,
        announced=job.announced,
        env=job.env,
        parameters=dict(parameters) if parameters else None,
        priority=job.priority,
        labels=job.labels,
        status=RunStatus.QUEUED,
        job_id=job.job_id,
        reuse=None if reuse else False,
        created_at=job.created_at,
        created_day=job.created_day,
        open=OPEN_RUNS,
    )


def job_enqueue(
    job: Job,
    *,
    actor: Actor,
    action: Action,
    idempotency: IdempotencyKey | None,
    transaction: Transaction,
) -> Job:
    """Write a new job and, if it is queued, its queue entry; or return the job that the same request created before.

    `transaction` has what is to be written with them, such as its run.
    """
    subject_note(job_id=job.job_id)
    _size_require(job)
    set_open(labels=job.labels, pipeline=job.pipeline, actor=actor)
    move = Move(
        job=job,
        before=None,
        after=Status(job.status),
        attempt=0,
        actor=actor,
        action=action,
        entry=entry_of(job, attempt=1) if job.status == Status.QUEUED else None,
        detail={"pipeline": job.pipeline, "git_ref": job.git_ref, "retry_of": job.retry_of},
    )
    if idempotency:
        idempotency_add(transaction, idempotency, job_id=job.job_id)
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
            return job_made_with(made, idempotency)
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


def job_made_with(made: IdempotencyKey, idempotency: IdempotencyKey) -> Job:
    """The job that a request with the same key created. Raises Unprocessable if that request had another payload."""
    if made.fingerprint != idempotency.fingerprint:
        raise Unprocessable(
            "This Idempotency-Key was used for other content. Send a new key.", code=ErrorCode.IDEMPOTENCY_KEY_REUSED
        )
    return job_get(made.job_id)


def idempotency_add(transaction: Transaction, key: IdempotencyKey, *, job_id: str) -> None:
    """Write the key with its job. The transaction fails with the label "idempotency" if it is in use."""
    key.job_id = job_id
    absent = IdempotencyKey.key.does_not_exist() | (IdempotencyKey.expires_at < clock.now())
    transaction.put("idempotency", key, absent)


def idempotency_of(actor: Actor, key: str | None, payload: Mapping[str, Any]) -> IdempotencyKey | None:
    if key is None:
        return None
    fingerprint = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
    return IdempotencyKey(
        key=hashlib.sha256(f"{actor.kind}:{actor.id}\n{key}".encode()).hexdigest(),
        fingerprint=fingerprint,
        expires_at=clock.now() + IDEMPOTENCY_LIFETIME,
    )
