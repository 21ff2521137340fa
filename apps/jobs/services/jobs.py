"""The services for users: start a run with its first job, cancel a job, and run it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from apps.audit.actions import Action
from apps.jobs import policies
from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.models import OPEN_RUNS, RUN, IdempotencyKey, Job, Run
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.runs import run_get
from apps.jobs.services.cancellation import job_stop
from apps.jobs.services.new_jobs import deploys_only, idempotency_of, job_enqueue, job_made_with, job_of, run_of
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.run_retries import node_retry, retry_note
from apps.jobs.states import FINAL, SOURCE_EVENTS, Event, RunStatus
from apps.pipelines.parsing import parameters_check
from apps.pipelines.refs import ref_validate
from apps.pipelines.selectors import pipeline_get, pipeline_parsed
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, NotFound
from controlplane.nosql.transaction import Transaction, TransactionFailed


def job_create(
    *,
    actor: Actor,
    pipeline: str | None = None,
    git_ref: str | None = None,
    env: Mapping[str, str] | None = None,
    priority: int = DEFAULT_PRIORITY,
    labels: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    reuse: bool = True,
    event: Event = Event.API,
    idempotency_key: str | None = None,
) -> Job:
    """Start a run of a pipeline (None: the default pipeline) for a ref (None: the pipeline's default ref).

    Returns its first job, which is queued, or waits if the pipeline is paused. All jobs of the run require the
    pipeline's labels and `labels`, and have the variables `env`. Without `reuse`, no job of the run takes the result of
    an earlier one. The same `idempotency_key` within 24 hours returns the job that the first request created.

    Raises NotFound for an unknown pipeline, InvalidInput for an invalid ref or a job that is too large,
    TooManyRequests when jobs wait under too many different sets of labels, Unprocessable when the key was used for
    another payload, Conflict while a request with the same key is being processed.
    """
    policies.job_create_require(actor)
    if git_ref is not None:
        ref_validate(git_ref)
    payload = {"pipeline": pipeline, "git_ref": git_ref, "env": env, "priority": priority, "labels": list(labels)}
    payload |= {"parameters": dict(parameters)} if parameters else {}
    payload |= {} if reuse else {"reuse": False}
    idempotency = idempotency_of(actor, idempotency_key, payload)
    try:
        source = pipeline_get(pipeline or settings.DEFAULT_PIPELINE)
    except NotFound:
        # A repeated request gets the same answer, also if the pipeline was deleted since.
        made = IdempotencyKey.find(idempotency.key) if idempotency else None
        if idempotency is None or made is None or made.expires_at < clock.now():
            raise
        return job_made_with(made, idempotency)
    parsed = pipeline_parsed(source)
    if parsed is not None:
        # Those of a file in the repository are checked when it is read.
        parameters = parameters_check(parsed, parameters or {})
    job = job_of(
        source,
        actor=actor,
        git_ref=git_ref or source.default_ref,
        env=dict(env or {}),
        priority=priority,
        labels=sorted({*source.labels, *labels}),
    )
    if event != Event.API:
        job.event = event
    transaction = Transaction()
    transaction.put("run", run_of(job, source=source, event=event, parameters=parameters, reuse=reuse))
    return job_enqueue(job, actor=actor, action=Action.JOB_CREATED, idempotency=idempotency, transaction=transaction)


def job_retry(*, actor: Actor, job_id: str, idempotency_key: str | None = None) -> Job:
    """Run an ended job again, as a new job in its place in the same run. Returns the new job.

    Of the jobs of a graph, those that were skipped or cancelled because of it wait anew. The new job is without the
    labels that only the repository's file required of the first one. The two jobs name each other. Of several requests
    at the same moment, one is served. A job can be run again any number of times, one after the other.

    Raises NotFound, or Conflict with code ``job_not_finished`` or ``job_just_retried``.
    """
    policies.job_retry_require(actor)
    old = job_get(job_id)
    if old.status not in FINAL:
        raise Conflict(f"The job has not ended yet: it is {old.status}.", code=ErrorCode.JOB_NOT_FINISHED)
    idempotency = idempotency_of(actor, idempotency_key, {"retry_of": job_id})
    try:
        if not old.node or old.is_first:
            return _first_retry(old, actor=actor, idempotency=idempotency)
        return node_retry(old, actor=actor, idempotency=idempotency)
    except TransactionFailed as failure:
        if failure.failed.keys().isdisjoint({"origin", "run", "node"}):
            raise
    newest = (job_get(job_id).retried_by or [""])[-1]
    raise Conflict(
        f"Another request has run this job again at the same moment: see job {newest}.",
        code=ErrorCode.JOB_JUST_RETRIED,
    )


def _first_retry(old: Job, *, actor: Actor, idempotency: IdempotencyKey | None) -> Job:
    """Run the job again that is its run's only one, or that failed to read the file of a graph."""
    source = pipeline_get(old.pipeline)
    job = job_of(
        source,
        actor=actor,
        git_ref=old.git_ref,
        env=old.env or {},
        priority=int(old.priority),
        labels=sorted({*source.labels} | ({*old.labels} - {*old.file_labels})),
        retry_of=old.job_id,
        run_id=old.run_id if old.node else None,
    )
    # What strangers proposed stays proposed.
    job.event = old.event
    job.checks_key = old.checks_key
    if old.event in SOURCE_EVENTS:
        # The ref may have moved since.
        job.commit = (run_get(str(old.run_id)).trigger or {}).get("commit")
    if old.event == Event.DEPLOYMENT or old.is_commit_given:
        deploys_only(job, commit=str(old.commit) if old.is_commit_given else None)
    transaction = Transaction()
    retry_note(transaction, old, job)
    if not old.node:
        transaction.put("run", run_of(job, source=source, event=Event.API))
    else:
        transaction.update(
            "run",
            Run(old.run_id, RUN),
            actions=[
                Run.job_id.set(job.job_id),
                Run.status.set(RunStatus.QUEUED),
                Run.completed_at.remove(),
                Run.open.set(OPEN_RUNS),
                Run.cancel_requested.remove(),
                Run.unchanged_since.remove(),
                Run.nothing_to_do.remove(),
                Run.announced.set(True) if job.announced else Run.announced.remove(),
                Run.revision.add(1),
            ],
            # An older job of the run may be run again, too: the newest one counts.
            condition=Run.job_id.exists(),
        )
    return job_enqueue(job, actor=actor, action=Action.JOB_RETRIED, idempotency=idempotency, transaction=transaction)


def job_cancel(*, actor: Actor, job_id: str) -> Job:
    """Cancel a waiting job, or ask the agent to cancel a running job. Cancelling again changes nothing.

    Raises NotFound, or Conflict with code ``job_finished`` when it has ended in another way.
    """
    policies.job_cancel_require(actor)
    job = job_stop(actor=actor, job_id=job_id)
    run_follow(job)
    return job
