"""Turning the events of repositories into runs: at once when they come, and by the sweep what is left then.

The ids of a run and of its first job follow from the event and the pipeline. So however often an event is worked off,
by how many processes at once, each pipeline that is bound to the repository has one run of it.
"""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from apps.accounts.policies import Permission
from apps.accounts.selectors import user_behind
from apps.audit.actions import Action
from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.models import RUN, Job, Run, RunHeads, heads_key
from apps.jobs.selectors.runs import runs_recent
from apps.jobs.services.event_runs import heads_cut, superseded_cancel
from apps.jobs.services.jobs import job_retry
from apps.jobs.services.new_jobs import job_enqueue, job_of, run_of
from apps.jobs.services.runs import run_retry
from apps.jobs.states import Event
from apps.pipelines.definitions.triggers import Trigger, Verdict, asks_to_skip, cancels_superseded, trigger_decide
from apps.pipelines.parsing import parameters_check
from apps.pipelines.refs import ref_validate
from apps.pipelines.selectors import Pipeline, pipeline_parsed, pipelines_bound
from apps.pipelines.services import pipeline_rename_source
from apps.sources.providers.interface import SourceEvent, event_from_json, provider_has
from apps.sources.selectors import Delivery, deliveries_due, delivery_find
from apps.sources.services import delivery_end, delivery_put_off, delivery_redeliver, installation_note
from apps.sources.states import DeliveryState, EventKind
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, TooManyRequests, Unavailable
from controlplane.lib.ids import derived_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# What a pipeline's part of an event came to: ``{"pipeline", "run_id", "reason", "is_error"}``, without what is empty.
Result = dict[str, Any]

_EVENTS = {EventKind.PUSH: Event.PUSH, EventKind.TAG: Event.TAG, EventKind.PULL_REQUEST: Event.PULL_REQUEST}
# The name of a branch that could be taken for something else.
_AMBIGUOUS = re.compile(r"[0-9a-f]{7,64}|HEAD|refs/.*")
# In how many of a pipeline's runs that of a commit is looked for whose checks are to run again.
_RUNS_BEFORE = 200
_REDELIVER_SECONDS = 5


def events_work(*, seconds: float) -> int:
    """Work off the events that are due, for at most so many seconds and one event. Returns how many it looked at."""
    until = time.monotonic() + seconds
    count = 0
    for event_id in deliveries_due(clock.now()):
        try:
            event_work(event_id, seconds=max(0.1, until - time.monotonic()))
        except Unavailable as error:
            logger.warning("The event %s stays due: %s", event_id, error.message)
        except Exception:
            # One that we cannot handle must not keep the others back.
            logger.exception("The event %s fails", event_id)
        count += 1
        if time.monotonic() >= until:
            break
    return count


def event_work(event_id: str, *, seconds: float) -> None:
    """Start the runs that an event asks for, and note what came of it. What takes longer, the sweep goes on with.

    Raises Unavailable: it stays due then.
    """
    delivery = delivery_find(event_id)
    if delivery is None or delivery.state != DeliveryState.PENDING:
        return
    until = time.monotonic() + seconds
    results: list[Result] = list(delivery.results or ())
    try:
        for event in map(event_from_json, delivery.events):
            for result in _results(delivery, event, done=[one.get("pipeline") for one in results]):
                results.append(result)
                if time.monotonic() >= until:
                    delivery_put_off(delivery, reason=None, results=results)
                    return
    except (Unavailable, TooManyRequests) as error:
        delivery_put_off(delivery, reason=error.message, results=results)
        return
    except Exception:
        logger.exception("The event %s fails", event_id)
        delivery_put_off(delivery, reason="The server failed. It tries again.", results=results)
        return
    failures = [one["reason"] for one in results if one.get("is_error")]
    said = [one["reason"] for one in results if one.get("reason")]
    is_unused = not any(one.get("run_id") for one in results)
    delivery_end(
        delivery,
        state=DeliveryState.FAILED if failures else DeliveryState.DONE,
        reason=failures[0] if failures else said[0] if said and is_unused else None,
        results=results,
    )


def event_redeliver(*, actor: Actor, connection_id: str, event_id: str) -> Delivery:
    """Work the event off once more, as `apps.sources.services.delivery_redeliver` says, and raises."""
    delivery = delivery_redeliver(actor=actor, connection_id=connection_id, event_id=event_id)
    event_work(str(delivery.event_id), seconds=_REDELIVER_SECONDS)
    return delivery_find(event_id) or delivery


def _results(delivery: Delivery, event: SourceEvent, *, done: Sequence[str | None]) -> Iterator[Result]:
    """What comes of an event, for each pipeline that is not `done`."""
    match event.kind:
        case EventKind.REPOSITORY_RENAMED:
            yield from _renamed(delivery, event)
        case EventKind.INSTALLATION:
            installation_note(delivery, event=event, actor=_actor(delivery, event))
        case EventKind.CHECK_RERUN:
            yield from _rerun(delivery, event, done)
        case _:
            yield from _started(delivery, event, done)


def _started(delivery: Delivery, event: SourceEvent, done: Sequence[str | None]) -> Iterator[Result]:
    reason = _asks_for_none(event)
    if reason:
        yield {"reason": reason}
        return
    bound = pipelines_bound(str(delivery.connection_id), event.repository)
    if not bound:
        yield {"reason": f"No pipeline is bound to {event.repository or 'this repository'}."}
        return
    actor = _actor(delivery, event)
    for pipeline in bound:
        if pipeline.name not in done:
            yield _result_of(pipeline, delivery, event, actor)


def _asks_for_none(event: SourceEvent) -> str | None:
    """Why the event asks for no run, whatever the pipelines say; None if it may."""
    if event.action == "deleted" or not event.after:
        return "It was deleted, so there is nothing to build."
    if event.kind != EventKind.TAG and asks_to_skip(event.message):
        return "The message of the commit or the pull request asks to skip it."
    return None


def _result_of(pipeline: Pipeline, delivery: Delivery, event: SourceEvent, actor: Actor) -> Result:
    """Start the pipeline's run, or say why there is none. Raises Unavailable, TooManyRequests."""
    result: Result = {"pipeline": str(pipeline.name)}
    try:
        verdict = _verdict(pipeline, event)
        if verdict is not None and verdict.reason is not None:
            return result | {"reason": verdict.reason}
        return result | {"run_id": _run_start(pipeline, delivery, event, verdict, actor)}
    except (Unavailable, TooManyRequests):
        raise
    except ApplicationError as error:
        return result | {"reason": error.message, "is_error": True}


def trigger_of(event: SourceEvent, default_branch: str) -> Trigger:
    """What decides whether the event starts a run."""
    return Trigger(
        kind=_EVENTS[event.kind].value,
        branch=event.branch,
        tag=event.tag,
        base=event.base,
        action=event.action,
        paths=event.changed_paths,
        default_branch=default_branch.removeprefix("refs/heads/"),
    )


def _verdict(pipeline: Pipeline, event: SourceEvent) -> Verdict | None:
    """Whether the pipeline's definition on the server lets the event start a run; None if it is in the repository."""
    parsed = pipeline_parsed(pipeline)
    return trigger_decide(parsed.on, trigger_of(event, str(pipeline.default_ref))) if parsed else None


def _run_start(
    pipeline: Pipeline, delivery: Delivery, event: SourceEvent, verdict: Verdict | None, actor: Actor
) -> str:
    """Start the run, unless it was started before. Returns its id. Raises ApplicationError."""
    kind = _EVENTS[event.kind]
    accepted = clock.parse_timestamp(delivery.accepted_at)
    seed = f"{delivery.event_id}#{int(delivery.generation)}#{pipeline.name}"
    run_id, job_id = derived_id(accepted, f"run#{seed}"), derived_id(accepted, f"job#{seed}")
    parsed = pipeline_parsed(pipeline)
    parameters = parameters_check(parsed, {}) if parsed else None
    git_ref = _git_ref(event)
    job = job_of(
        pipeline,
        actor=actor,
        git_ref=git_ref,
        env={},
        priority=DEFAULT_PRIORITY,
        labels=sorted(pipeline.labels),
        run_id=run_id,
        job_id=job_id,
    )
    job.event, job.commit = kind, event.after
    run = run_of(job, source=pipeline, event=kind, parameters=parameters)
    _event_note(run, delivery, event, pipeline)
    job.checks_key = run.checks_key
    if verdict is None or verdict.asks_paths:
        if parsed and not parsed.is_graph:
            # Its agent asks for the steps when it knows which paths have changed.
            job.definition, job.steps, job.is_defined_on_server = None, None, True
    else:
        run.trigger = {**run.trigger, "decided": True}
    transaction = Transaction()
    transaction.put("run", run)
    at = clock.timestamp(event.at) if event.at else "-"
    entries = (RunHeads.entries | []).append([f"{run_id} {event.before or '-'} {event.after} {at}"])
    heads = RunHeads(heads_key(str(pipeline.name), git_ref))
    transaction.update("heads", heads, actions=[RunHeads.entries.set(entries)])
    try:
        job_enqueue(job, actor=actor, action=Action.JOB_CREATED, idempotency=None, transaction=transaction)
    except TransactionFailed as failure:
        if "run" not in failure.failed:
            raise
    if parsed and verdict and verdict.starts and cancels_superseded(parsed.on, kind.value):
        superseded_cancel(run)
    heads_cut(pipeline=str(pipeline.name), git_ref=git_ref)
    return run_id


def _event_note(run: Run, delivery: Delivery, event: SourceEvent, pipeline: Pipeline) -> None:
    """Note in the run what the event says."""
    trigger = trigger_of(event, str(pipeline.default_ref))
    said = {
        **vars(trigger),
        "paths": list(trigger.paths) if trigger.paths is not None else None,
        "commit": event.after,
        "before": event.before,
        "is_forced": event.is_forced or None,
        "title": event.title,
        "author": event.author,
        "url": event.url,
        "head": event.branch if event.kind == EventKind.PULL_REQUEST else None,
        "head_repository": event.head_repository if event.is_fork else None,
    }
    run.trigger = {name: value for name, value in said.items() if value is not None}
    run.event_id = delivery.event_id
    run.commit = event.after
    if event.kind == EventKind.PULL_REQUEST:
        run.pull_request, run.is_fork = event.number, event.is_fork
    if provider_has(str(delivery.provider), "check_send"):
        run.checks_of, run.checks_repository = delivery.connection_id, event.repository
        run.checks_commit = event.after


def _git_ref(event: SourceEvent) -> str:
    """The ref that the run is for. Raises InvalidInput if it is none that an agent may fetch."""
    if event.kind == EventKind.PUSH and event.branch and not _AMBIGUOUS.fullmatch(event.branch):
        return ref_validate(event.branch)
    if not event.ref:
        raise InvalidInput("The event names no ref.")
    return ref_validate(event.ref)


def _actor(delivery: Delivery, event: SourceEvent) -> Actor:
    """Who starts the run: the provider, for the author of the event. Up to four reads."""
    name = "".join(one for one in event.author or "" if one.isprintable())
    shown = f"{name} by {delivery.connection_id}" if name else f"connection {delivery.connection_id}"
    permissions = frozenset({Permission.JOBS_CREATE.value, Permission.JOBS_RETRY.value})
    behind = user_behind(identity=event.sender_identity, email=event.sender_email)
    return Actor("webhook", str(delivery.connection_id), shown, permissions, behind_id=behind)


def _renamed(delivery: Delivery, event: SourceEvent) -> Iterator[Result]:
    """Let the pipelines that are bound to the repository follow its new name."""
    old, new = str(event.old_repository), event.repository
    # Who repeats this may have renamed them already.
    bound = [one for name in (old, new) for one in pipelines_bound(str(delivery.connection_id), name)]
    if not bound:
        yield {"reason": f"No pipeline is bound to {old}."}
    url = (_url_before(event.clone_url, old, new), event.clone_url) if event.clone_url else None
    for pipeline in bound:
        name = str(pipeline.name)
        try:
            pipeline_rename_source(actor=SYSTEM, name=name, old=old, new=new, url=url)
            yield {"pipeline": name, "reason": f"It is bound to {new} now."}
        except InvalidInput as error:
            yield {"pipeline": name, "reason": error.message, "is_error": True}


def _url_before(url: str, old: str, new: str) -> str:
    """The address that the repository had under its old name."""
    return url.replace(f"/{new}", f"/{old}")


def _rerun(delivery: Delivery, event: SourceEvent, done: Sequence[str | None]) -> Iterator[Result]:
    """Run the job again whose check is meant, or all jobs of the commit's runs."""
    found = False
    actor = _actor(delivery, event)
    for pipeline in pipelines_bound(str(delivery.connection_id), event.repository):
        run = _run_of_commit(delivery, event, pipeline)
        if run is None or pipeline.name in done:
            continue
        found = True
        result: Result = {"pipeline": str(pipeline.name), "run_id": str(run.run_id)}
        try:
            _retry(run, event, actor=actor)
        except (Unavailable, TooManyRequests):
            raise
        except ApplicationError as error:
            result |= {"reason": error.message}
        yield result
    if not found and not done:
        yield {"reason": "No run of this commit is known."}


def _run_of_commit(delivery: Delivery, event: SourceEvent, pipeline: Pipeline) -> Run | None:
    """The newest run of the commit, or the one whose check is meant.

    The list of runs may lag by moments, but people ask for a check again later.
    """
    if event.external_id:
        job = Job.find(event.external_id)
        run = Run.find(str(job.run_id) if job else event.external_id, RUN)
        return run if run and _is_shown_at(run, delivery, event, pipeline) else None
    for run in runs_recent(str(pipeline.name), limit=_RUNS_BEFORE):
        if _is_shown_at(run, delivery, event, pipeline):
            return run
    return None


def _is_shown_at(run: Run, delivery: Delivery, event: SourceEvent, pipeline: Pipeline) -> bool:
    place = (run.pipeline, run.checks_of, run.checks_commit)
    return place == (pipeline.name, delivery.connection_id, event.after)


def _retry(run: Run, event: SourceEvent, *, actor: Actor) -> None:
    """Run what the check is about again: a job, or what has failed of a run; without a check, all of the run."""
    run_id, external_id = str(run.run_id), event.external_id
    if external_id and external_id != run_id:
        job_retry(actor=actor, job_id=external_id, idempotency_key=event.delivery_id[:100] or None)
        return
    try:
        run_retry(actor=actor, run_id=run_id, everything=not external_id)
    except Conflict as error:
        if not external_id or error.code != ErrorCode.RUN_NOTHING_TO_RETRY:
            raise
        run_retry(actor=actor, run_id=run_id, everything=True)
