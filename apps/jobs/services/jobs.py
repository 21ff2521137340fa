"""What people do to jobs: create, cancel, run again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.agents.services import lease_remove, lease_request_cancel
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs import policies
from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.models import OPEN, IdempotencyKey, Job
from apps.jobs.selectors.jobs import job_get
from apps.jobs.services.counters import counter_add, ending_measure
from apps.jobs.services.queue import entry_of, set_register
from apps.jobs.states import FINAL, Status, StepState, transition_require
from apps.pipelines.definitions import DEFAULT_RETRIES
from apps.pipelines.models import Pipeline
from apps.pipelines.refs import ref_validate
from apps.pipelines.selectors import pipeline_definition, pipeline_get
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, NotFound, Unprocessable
from controlplane.lib.ids import id_moment, new_id
from controlplane.lib.work import subject_note
from controlplane.nosql.transaction import Transaction, TransactionConflicted, TransactionFailed

IDEMPOTENCY_LIFETIME = timedelta(hours=24)

# How often an act is tried again when the job has changed under it.
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
    """Queue a job of a pipeline (None: the default one) for a ref (None: its default one).

    The job asks for the pipeline's labels and for `labels`. The same `idempotency_key` within 24 hours gives the job
    that it made. Raises NotFound for an unknown pipeline, InvalidInput for what can be no ref, Unprocessable when the
    key was used for another payload, Conflict while a request with the same key is under way.
    """
    policies.job_create_require(actor)
    if git_ref is not None:
        ref_validate(git_ref)
    payload = {"pipeline": pipeline, "git_ref": git_ref, "env": env, "priority": priority, "labels": list(labels)}
    idempotency = _idempotency(actor, idempotency_key, payload)
    try:
        source = pipeline_get(pipeline or settings.DEFAULT_PIPELINE)
    except NotFound:
        # What was answered once is answered again, also when the pipeline is gone since.
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
    """Queue a new job like an ended one. Raises NotFound, or Conflict with code ``job_not_finished``."""
    policies.job_retry_require(actor)
    old = job_get(job_id)
    if old.status not in FINAL:
        raise Conflict(f"The job has not ended yet: it is {old.status}.", code="job_not_finished")
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
    """Cancel a job: at once while it waits, through its agent while it runs. Cancelling again changes nothing.

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
            # The job has moved on; what is to be done depends on where it stands now.
            continue
        return job_get(job_id)
    raise Conflict("The job keeps changing. Please try again.", code="job_state")


def _cancel_in_state(job: Job, *, actor: Actor) -> None:
    status, attempt, target = Status(job.status), int(job.attempt), f"job:{job.job_id}"
    unchanged = (Job.status == status) & (Job.attempt == attempt)
    transaction = Transaction()
    if status == Status.RUNNING:
        transaction.update("job", job, actions=[Job.cancel_requested.set(True)], condition=unchanged)
        lease_request_cancel(transaction, agent_id=str(job.agent_id), job_id=job.job_id, attempt=attempt)
        audit_add(transaction, actor=actor, action=Action.JOB_CANCEL_REQUESTED, target=target)
        transaction.commit()
        return
    transition_require(status, Status.CANCELLED)
    transaction.update("job", job, actions=ending_actions(job.job_id, Status.CANCELLED), condition=unchanged)
    if status == Status.QUEUED:
        transaction.delete("entry", entry_of(job, attempt=attempt + 1))
    elif status == Status.ASSIGNED:
        lease_remove(transaction, agent_id=str(job.agent_id), job_id=job.job_id, attempt=attempt)
    counter_add(transaction, status=Status.CANCELLED)
    audit_add(transaction, actor=actor, action=Action.JOB_CANCELLED, target=target)
    transaction.commit()
    ending_measure(status=Status.CANCELLED)


def created_day(job_id: str) -> str:
    """The day, as ``2026-11-21``, on which the job was created. Its id tells, so that nobody need read the job."""
    return f"{id_moment(job_id):%Y-%m-%d}"


def ending_actions(job_id: str, status: Status) -> list[Any]:
    """The changes that every end of a job makes to it."""
    return [
        Job.status.set(status),
        Job.outcome.set(f"{status}#{created_day(job_id)}"),
        Job.completed_at.set(clock.timestamp(clock.now())),
    ]


def steps_of(definition: Mapping[str, Any]) -> list[dict[str, str]]:
    """The steps of a parsed definition before anything has run."""
    return [{"name": step["name"], "state": StepState.PENDING} for step in definition["steps"]]


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
    """A queued job of the pipeline, not yet written."""
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
    """Write a new job and its entry in the queue; or give the job that the same request made before."""
    subject_note(job_id=job.job_id)
    set_register(labels=job.labels)
    transaction = Transaction()
    transaction.put("job", job)
    transaction.put("entry", entry_of(job, attempt=1))
    counter_add(transaction, status=Status.QUEUED, moment=id_moment(job.job_id))
    audit_add(
        transaction,
        actor=actor,
        action=action,
        target=f"job:{job.job_id}",
        detail={"pipeline": job.pipeline, "git_ref": job.git_ref, "retry_of": job.retry_of},
    )
    if idempotency:
        idempotency.job_id = job.job_id
        absent = IdempotencyKey.key.does_not_exist() | (IdempotencyKey.expires_at < clock.now())
        transaction.put("idempotency", idempotency, absent)
    try:
        transaction.commit()
    except TransactionConflicted as conflict:
        if "idempotency" in conflict.conflicted:
            raise Conflict(
                "A request with this Idempotency-Key is under way.", code="idempotency_key_in_use"
            ) from conflict
        raise
    except TransactionFailed as failure:
        return _job_made_before(job, idempotency, failure)
    return job


def _job_made_before(job: Job, idempotency: IdempotencyKey | None, failure: TransactionFailed) -> Job:
    standing = failure.failed.get("idempotency")
    if idempotency and isinstance(standing, IdempotencyKey):
        return _job_made_with(standing, idempotency)
    if "job" in failure.failed:
        # Ids are unique, so this is our own write, whose response was lost.
        return job_get(job.job_id)
    raise failure


def _job_made_with(standing: IdempotencyKey, idempotency: IdempotencyKey) -> Job:
    """The job that the standing key has made. Raises Unprocessable when that was for another payload."""
    if standing.fingerprint != idempotency.fingerprint:
        raise Unprocessable(
            "This Idempotency-Key was used for a request with another content.", code="idempotency_key_reused"
        )
    return job_get(standing.job_id)


def _idempotency(actor: Actor, key: str | None, payload: Mapping[str, Any]) -> IdempotencyKey | None:
    if key is None:
        return None
    fingerprint = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
    return IdempotencyKey(
        key=hashlib.sha256(f"{actor.kind}:{actor.id}\n{key}".encode()).hexdigest(),
        fingerprint=fingerprint,
        expires_at=clock.now() + IDEMPOTENCY_LIFETIME,
    )
