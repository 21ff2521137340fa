"""An agent's report of the pipeline file that the first job of a run has read: run its steps, or expand the run."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from apps.agents.services import lease_limit
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.label_sets import agent_may_take
from apps.jobs.models import FILE_NODE, RUN, Job, Run
from apps.jobs.policies import attempt_require
from apps.jobs.run_plan import nodes_deploying
from apps.jobs.selectors.run_context import run_context, run_group
from apps.jobs.selectors.runs import run_get, runs_recent
from apps.jobs.services.limits import time_limit
from apps.jobs.services.losses import attempt_pass_on
from apps.jobs.services.run_expansion import Source, run_expand, stale
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import attempt_fence
from apps.jobs.services.unchanged_runs import unchanged_definition, unchanged_find
from apps.jobs.states import SOURCE_EVENTS, Event, Status
from apps.pipelines.definitions import DEFINITION_PATH, MAIN_JOB, Definition, Pipeline, Step
from apps.pipelines.parsing import parameters_check, pipeline_expand, pipeline_parse, pipeline_wants
from apps.pipelines.selectors import pipeline_get
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unprocessable
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import targets_required
from controlplane.nosql.transaction import Transaction, TransactionFailed

# In how many runs before one the last one of the same ref is looked for.
_RUNS_BEFORE = 50


@frozen
class FileReport:
    """What the first job of a run has found in the repository.

    `text` is the pipeline file; None where the definition is on the server. `trees` and `changed_paths` answer what the
    file asks about the repository; None: not asked yet.
    """

    commit: str | None
    text: str | None
    trees: Mapping[str, str] | None = None
    changed_paths: Sequence[str] | None = None
    answers_wants: bool = False


def attempt_define(
    *, agent: Actor, agent_labels: Collection[str], job_id: str, attempt: int, report: FileReport
) -> Mapping[str, Any]:
    """Read the pipeline file for a running attempt; returns the definition to run.

    A file of several jobs makes the run a graph; the attempt then only says so. If the file asks about the repository,
    the answer is ``{"wants": …}``, and the agent reports again. Reporting the same again changes nothing. The file's
    labels, retries and time limit hold for this job only, since an agent may report any text.

    Raises Unprocessable whose errors name line and field, Conflict with code ``stale_attempt``, or Conflict with code
    ``job_moved`` when the file requires labels that this agent lacks: the job then waits for an agent that has them.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status != Status.RUNNING:
        raise stale()
    if job.work:
        # Its definition is that of the run's file, which its start returned. An agent cannot name other secrets.
        raise Unprocessable(
            "The run's pipeline file defines this job, and cannot be reported again.", code=ErrorCode.DEFINITION_INVALID
        )
    same = _unchanged_define(job, agent=agent, attempt=attempt, report=report)
    if same is not None:
        return same
    try:
        pipeline = None if job.node == FILE_NODE else pipeline_parse(_text_of(job, report))
        answer = _event_define(job, pipeline, agent=agent, attempt=attempt, report=report)
        if answer is not None:
            return answer
        if pipeline is None or pipeline.is_graph:
            return _graph_define(job, pipeline, agent=agent, attempt=attempt, report=report)
        definition = _only_definition(job, pipeline)
    except InvalidInput as error:
        raise Unprocessable(error.message, code=ErrorCode.DEFINITION_INVALID, errors=error.errors) from error
    labels = sorted({*job.labels, *definition["labels"]})
    problem = _target_problem(definition["labels"])
    if problem:
        raise Unprocessable(problem, code=ErrorCode.DEFINITION_INVALID)
    if not agent_may_take(labels, agent_labels):
        attempt_pass_on(job=job, actor=agent, labels=labels, lacking={*labels} - {*agent_labels})
        raise Conflict("The job requires labels that this agent lacks. Stop it.", code=ErrorCode.JOB_MOVED)
    if job.defined_attempt != attempt:
        _definition_write(job, definition, agent=agent, attempt=attempt, commit=report.commit, labels=labels)
    return definition


def _target_problem(labels: Collection[str]) -> str | None:
    """Why a file of steps may not ask for these labels, or None. No read for most files."""
    if not targets_required(labels):
        return None
    from apps.jobs.selectors.environments import target_problem

    return target_problem(labels, None)


def _only_definition(job: Job, pipeline: Pipeline) -> dict[str, Any]:
    """The definition of the one job of a file of steps. Raises InvalidInput for a run that is to deploy."""
    if job.event == Event.DEPLOYMENT or job.is_commit_given:
        raise InvalidInput.field(
            "environment",
            "cannot be deployed to: the pipeline file has no job that deploys, since only a job in `jobs` has an "
            "`environment`",
        )
    return Definition.of(pipeline.jobs[MAIN_JOB]).as_dict()


def _unchanged_define(job: Job, *, agent: Actor, attempt: int, report: FileReport) -> Mapping[str, Any] | None:
    """What the first job of a schedule's run does if nothing has changed; None if something has."""
    same = unchanged_find(job, commit=report.commit) if job.event == Event.SCHEDULE and job.is_first else None
    if same is None:
        return None
    definition = unchanged_definition(job, since=same)
    if job.defined_attempt != attempt:
        _definition_write(
            job, definition, agent=agent, attempt=attempt, commit=report.commit, labels=job.labels, since=same
        )
    return definition


def _event_define(
    job: Job, pipeline: Pipeline | None, *, agent: Actor, attempt: int, report: FileReport
) -> Mapping[str, Any] | None:
    """The answer to the first job of an event's run if the event asks for nothing, or if that is not known yet."""
    if pipeline is None or job.event not in SOURCE_EVENTS or not job.is_first or job.is_commit_given:
        return None
    # A cold start loads nothing of events.
    from apps.jobs.services.event_runs import event_answer, nothing_definition

    answer = event_answer(job, pipeline, answers_wants=report.answers_wants, changed_paths=report.changed_paths)
    if answer.wants is not None:
        return {"wants": answer.wants}
    if answer.nothing is None:
        return None
    definition = nothing_definition(job, answer.nothing)
    if job.defined_attempt != attempt:
        _definition_write(
            job,
            definition,
            agent=agent,
            attempt=attempt,
            commit=report.commit,
            labels=job.labels,
            nothing=answer.nothing,
        )
    return definition


def _text_of(job: Job, report: FileReport) -> str:
    """The pipeline definition: the server's, or what the agent has read. Raises InvalidInput."""
    if not job.is_defined_on_server:
        return report.text or ""
    try:
        return str(pipeline_get(str(job.pipeline)).definition or "")
    except NotFound:
        raise InvalidInput(f"The pipeline {job.pipeline} was deleted.", code=ErrorCode.DEFINITION_INVALID) from None


def _changes_since(run: Run) -> dict[str, str]:
    """Since when changed paths count: since the commit of the newest earlier run of the same ref, or of its branch.

    Of an event, it says so itself.
    """
    if run.trigger:
        from apps.jobs.services.event_runs import changes_since

        return changes_since(run.trigger)
    earlier = (other for other in runs_recent(str(run.pipeline), limit=_RUNS_BEFORE) if other.run_id != run.run_id)
    since = next((str(other.commit) for other in earlier if other.git_ref == run.git_ref and other.commit), None)
    return {"since": since} if since else {"branch": str(run.default_ref or "")}


def _graph_define(
    job: Job, pipeline: Pipeline | None, *, agent: Actor, attempt: int, report: FileReport
) -> Mapping[str, Any]:
    """Expand the run, unless an earlier report has, and let its jobs start. Raises InvalidInput."""
    if pipeline is not None:
        if not job.node or not report.commit:
            raise InvalidInput(
                "A pipeline with `jobs` needs a newer agent. Update the agent, and start the run again.",
                code=ErrorCode.DEFINITION_INVALID,
            )
        run = run_get(job.run_id)
        wants = pipeline_wants(pipeline)
        if wants and not report.answers_wants:
            return {"wants": {**wants, **(_changes_since(run) if wants.get("changes") else {})}}
        parameters = parameters_check(pipeline, run.parameters or {})
        # A commit that is deployed again changes what it changed then.
        commit = str(job.commit) if job.is_commit_given else report.commit
        changed_paths = run.changed_paths if job.is_commit_given else report.changed_paths
        found = {"commit": commit, "parameters": parameters, "changed_paths": changed_paths}
        context = run_context(run) | found
        nodes = pipeline_expand(pipeline, context)
        if run.deploys_to:
            nodes = nodes_deploying(nodes, str(run.deploys_to), is_alone=bool(run.deploys_alone))
        group = run_group(pipeline, context)
        source = Source(commit, parameters, changed_paths, report.trees, group)
        run = run_expand(agent=agent, job=job, attempt=attempt, pipeline=pipeline, nodes=nodes, source=source)
    else:
        run = run_get(job.run_id)
    run_follow(Job(job_id=job.job_id, run_id=job.run_id, node=FILE_NODE))
    others = int(run.jobs or 1) - 1
    # Any agent can run this; its output is what the first job's log says.
    says = f"echo 'The run has {others} more job{'' if others == 1 else 's'}.'"
    name = "make the jobs of the run" if job.is_defined_on_server else f"read {DEFINITION_PATH}"
    return Definition(steps=[Step(name=name, run=says)], labels=list(job.labels)).as_dict()


def _definition_write(
    job: Job,
    definition: Mapping[str, Any],
    *,
    agent: Actor,
    attempt: int,
    commit: str | None,
    labels: list[str],
    since: str | None = None,
    nothing: str | None = None,
) -> None:
    """Write what the attempt runs. `since` is the run that has built the same, so that this one has nothing to do.

    `nothing` is why it has nothing to do otherwise.
    """
    transaction = Transaction()
    if nothing is not None:
        transaction.update("run", Run(job.run_id, RUN), actions=[Run.nothing_to_do.set(nothing)])
    if since is not None:
        transaction.update("run", Run(job.run_id, RUN), actions=[Run.unchanged_since.set(since)])
    transaction.update(
        "job",
        job,
        actions=[
            *([Job.commit.set(commit)] if commit else []),
            Job.defined_attempt.set(attempt),
            Job.steps.set(steps_of(definition)),
            Job.retries.set(definition["retries"]),
            Job.timeout.set(time_limit(definition["timeout"])),
            Job.labels.set(labels),
            Job.file_labels.set(job.file_labels_of(labels)),
        ],
        condition=attempt_fence(agent.id, attempt)
        & (Job.status == Status.RUNNING)
        & (Job.defined_attempt.does_not_exist() | (Job.defined_attempt < attempt)),
    )
    lease_limit(
        transaction,
        agent_id=agent.id,
        job_id=job.job_id,
        attempt=attempt,
        limit=time_limit(definition["timeout"]),
    )
    target = f"job:{job.job_id}"
    detail = {
        "commit": commit,
        "retries": definition["retries"],
        "timeout": definition["timeout"],
        "labels": ", ".join(definition["labels"]),
    }
    audit_add(transaction, actor=agent, action=Action.JOB_DEFINED, target=target, detail=detail)
    try:
        transaction.commit()
    except TransactionFailed:
        # The same request arrived twice at the same time, or the agent has lost the attempt. The job shows which.
        job = attempt_require(Job.find(job.job_id), agent_id=agent.id, attempt=attempt)
        if job.defined_attempt != attempt:
            raise stale() from None
