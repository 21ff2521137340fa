"""Users ask for deployments: of a ref, of the commit of a run, of one again, or back to the last good one.

Each starts a run of which only the jobs count that deploy to the environment, and what these need. The deployment
itself begins when that run has come to it, and then waits for the gates of the environment as every other.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs import policies
from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.models import Deployment, Job, Run
from apps.jobs.run_plan import environments_shown
from apps.jobs.selectors.deployments import deployment_get, deployment_to_put_back
from apps.jobs.selectors.environments import environment_find
from apps.jobs.selectors.gates import ref_is_allowed, refs_shown
from apps.jobs.selectors.run_context import run_context
from apps.jobs.selectors.runs import run_get
from apps.jobs.services.new_jobs import deploys_only, idempotency_of, job_enqueue, job_of, run_of
from apps.jobs.states import DEPLOYMENT_OPEN, Event
from apps.pipelines.definitions import ENVIRONMENT_NAME, ENVIRONMENT_NAME_FORM
from apps.pipelines.parsing import parameters_check, pipeline_expand
from apps.pipelines.refs import ref_validate
from apps.pipelines.selectors import Pipeline, pipeline_get, pipeline_parsed
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.nosql.transaction import Transaction

# What a run for a deployment has of the run whose commit it has.
_SAME = ("commit", "changed_paths", "pull_request", "is_fork", "allowed_at", "allowed_by")


def deployment_create(
    *,
    actor: Actor,
    environment: str,
    pipeline: str | None = None,
    git_ref: str | None = None,
    run_id: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Start a run that deploys to the environment: of a ref (None: the pipeline's default ref), or of a run's commit.

    With `run_id`, the new run has the ref, the commit, the parameters and the variables of that one, and leaves other
    environments out; without it, deployments to others that the wanted jobs need are made, too. Returns the first job.

    Raises Forbidden, NotFound, InvalidInput, Conflict with the code ``deployment_state`` if the run has no commit yet,
    and what `job_enqueue` raises.
    """
    policies.job_create_require(actor)
    asked: dict[str, Any] = {"environment": environment, "pipeline": pipeline, "git_ref": git_ref, "run_id": run_id}
    asked |= {"parameters": dict(parameters)} if parameters else {}
    if run_id is not None:
        if git_ref is not None or parameters:
            raise InvalidInput.field("run_id", "must not be given with git_ref or parameters: the run has its own")
        run = run_get(run_id)
        if pipeline not in (None, run.pipeline):
            raise InvalidInput.field("run_id", f"must be a run of {pipeline}, not of {run.pipeline}")
        return _commit_deploy(run, environment, actor=actor, asked=asked, key=idempotency_key, what="deploy")
    source = pipeline_get(pipeline or settings.DEFAULT_PIPELINE)
    git_ref = ref_validate(git_ref) if git_ref else str(source.default_ref)
    _environment_check(environment, git_ref)
    parsed = pipeline_parsed(source)
    if parsed is not None:
        parameters = parameters_check(parsed, parameters or {})
    job = job_of(source, actor=actor, git_ref=git_ref, env={}, priority=DEFAULT_PRIORITY, labels=sorted(source.labels))
    run = _run_of(job, source, environment, parameters=parameters)
    _definition_check(source, run)
    return _start(job, run, actor=actor, asked=asked, key=idempotency_key, what="deploy")


def deployment_rollback(*, actor: Actor, deployment_id: str, idempotency_key: str | None = None) -> Job:
    """Deploy the commit of the last good deployment before this one again. Returns the first job of the new run.

    Raises Forbidden, NotFound, and Conflict with the code ``nothing_to_put_back``.
    """
    policies.job_create_require(actor)
    deployment = deployment_get(deployment_id)
    good = deployment_to_put_back(deployment)
    if good is None:
        raise Conflict(
            f"There was no good deployment of another commit of {deployment.pipeline} to {deployment.environment} "
            "before this one.",
            code=ErrorCode.NOTHING_TO_PUT_BACK,
        )
    return _again(good, actor=actor, of=deployment, key=idempotency_key, what="rollback")


def deployment_redeploy(*, actor: Actor, deployment_id: str, idempotency_key: str | None = None) -> Job:
    """Deploy the commit of a deployment that has ended again. Returns the first job of the new run.

    Raises Forbidden, NotFound, and Conflict with the code ``deployment_state``.
    """
    policies.job_create_require(actor)
    deployment = deployment_get(deployment_id)
    if deployment.status in DEPLOYMENT_OPEN:
        raise Conflict("The deployment has not ended yet.", code=ErrorCode.DEPLOYMENT_STATE)
    return _again(deployment, actor=actor, of=deployment, key=idempotency_key, what="redeploy")


def _again(repeated: Deployment, *, actor: Actor, of: Deployment, key: str | None, what: str) -> Job:
    run = run_get(str(repeated.run_id))
    asked = {"what": what, "deployment_id": of.deployment_id}
    return _commit_deploy(
        run, str(repeated.environment), actor=actor, asked=asked, key=key, what=what, repeats=repeated
    )


def _commit_deploy(
    before: Run,
    environment: str,
    *,
    actor: Actor,
    asked: Mapping[str, Any],
    key: str | None,
    what: str,
    repeats: Deployment | None = None,
) -> Job:
    """Start a run with the commit of an earlier one that deploys to this environment and to no other."""
    if not before.commit:
        raise Conflict("The run has no commit yet, or has never found one.", code=ErrorCode.DEPLOYMENT_STATE)
    _environment_check(environment, str(before.git_ref))
    source = pipeline_get(str(before.pipeline))
    job = job_of(
        source,
        actor=actor,
        git_ref=str(before.git_ref),
        env=dict(before.env or {}),
        priority=int(before.priority),
        labels=sorted({*source.labels, *before.labels}),
    )
    run = _run_of(job, source, environment, parameters=before.parameters, commit=str(before.commit))
    run.deploys_alone, run.event_before = True, before.event_before or before.event
    run.repeats = repeats.deployment_id if repeats else None
    for member in _SAME:
        setattr(run, member, getattr(before, member))
    _definition_check(source, run)
    if before.event == Event.PULL_REQUEST:
        # What strangers proposed stays proposed.
        job.event = run.event = before.event
    return _start(job, run, actor=actor, asked=asked, key=key, what=what)


def _definition_check(source: Pipeline, run: Run) -> None:
    """Raises InvalidInput if no job of a definition that is kept on the server deploys to the environment of the run.

    Where the name of an environment depends on the commit, or cannot be filled in yet, the run decides.
    """
    parsed, wanted = pipeline_parsed(source), str(run.deploys_to)
    if parsed is None:
        return
    names = {str(job.environment) for job in parsed.jobs.values() if job.environment}
    templates = [name for name in names if "${{" in name]
    if any("commit" in name for name in templates):
        return
    if templates:
        try:
            parameters = parameters_check(parsed, run.parameters or {})
            nodes = pipeline_expand(parsed, run_context(run) | {"parameters": parameters})
        except InvalidInput:
            return
        names = {str(node.environment) for node in nodes if node.environment}
    if wanted not in names:
        raise InvalidInput.field("environment", f"must be {environments_shown(sorted(names))}, not {wanted}")


def _run_of(
    job: Job, source: Pipeline, environment: str, *, parameters: Mapping[str, Any] | None, commit: str | None = None
) -> Run:
    job.event = Event.DEPLOYMENT
    deploys_only(job, commit=commit)
    run = run_of(job, source=source, event=Event.DEPLOYMENT, parameters=parameters)
    run.deploys_to = environment
    return run


def _start(job: Job, run: Run, *, actor: Actor, asked: Mapping[str, Any], key: str | None, what: str) -> Job:
    transaction = Transaction()
    transaction.put("run", run)
    audit_add(
        transaction,
        actor=actor,
        action=Action.DEPLOYMENT_REQUESTED,
        target=f"environment:{run.deploys_to}",
        detail={
            "what": what,
            "pipeline": str(run.pipeline),
            "git_ref": str(run.git_ref),
            "commit": run.commit,
            "repeats": run.repeats,
            "run_id": str(run.run_id),
        },
        label="deployment audit",
    )
    idempotency = idempotency_of(actor, key, asked)
    return job_enqueue(job, actor=actor, action=Action.JOB_CREATED, idempotency=idempotency, transaction=transaction)


def _environment_check(name: str, git_ref: str) -> None:
    """Raises InvalidInput or NotFound for what could only fail later. The gates ask again."""
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise InvalidInput.field("environment", f"must be {ENVIRONMENT_NAME_FORM}")
    environment = environment_find(name)
    if environment is None:
        return
    if environment.deleted_at:
        raise NotFound(f"The environment {name} was deleted.", code=ErrorCode.ENVIRONMENT_NOT_FOUND)
    if not ref_is_allowed(environment, git_ref):
        raise InvalidInput.field(
            "git_ref", f"must be one that {name} allows: {refs_shown(environment)}; {git_ref[:100]} is none"
        )
