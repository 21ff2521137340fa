"""Writing pipelines: people save and delete them, and jobs report what the repository's own file asks for."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.pipelines import policies
from apps.pipelines.definitions import pipeline_name_validate
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.parsing import definition_parse
from apps.pipelines.refs import ref_validate, repository_allowed_require, repository_validate
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, NotFound
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How often a save is tried again when another user saved the pipeline in between.
_TRIES = 5


class PipelineSaved(NamedTuple):
    """The current pipeline, and whether it is a new one."""

    pipeline: Pipeline
    created: bool


def pipeline_save(
    *,
    actor: Actor,
    name: str,
    repository: str,
    default_ref: str,
    definition: str | None,
    revision: int | None = None,
) -> PipelineSaved:
    """Create the pipeline `name`, or replace all of it; of several saves, the last one wins.

    `definition` is YAML, or None for the file ``.hybrid-ci.yml`` of the repository. Saving a pipeline that is already
    like this changes nothing and adds no audit event. With `revision`, the save requires that the current pipeline has
    this revision (0: that there is none).

    Raises Forbidden; InvalidInput (for a definition: with the lines of its mistakes); and Conflict with the code
    ``changed_meanwhile`` or ``name_taken`` for another `revision`, ``pipeline_busy`` when too many others save the
    pipeline at the same time.
    """
    policies.pipeline_save_require(actor)
    pipeline_name_validate(name)
    repository_validate(repository)
    repository_allowed_require(repository)
    ref_validate(default_ref, field="default_ref")
    parsed = definition_parse(definition) if definition is not None else None
    learnt = {"labels": parsed.labels, "retries": parsed.retries, "timeout": parsed.timeout} if parsed else {}
    wanted = {"repository": repository, "default_ref": default_ref, "definition": definition}
    for _ in range(_TRIES):
        current = Pipeline.find(SCOPE, name)
        _revision_require(current, revision)
        if current is not None and all(getattr(current, member) == value for member, value in wanted.items()):
            return PipelineSaved(current, created=False)
        pipeline, transaction = _pipeline_write(name, current, {**wanted, **learnt})
        audit_add(
            transaction,
            actor=actor,
            action=Action.PIPELINE_SAVED,
            target=f"pipeline:{name}",
            detail={
                "repository": repository,
                "default_ref": default_ref,
                "definition": "on the server" if definition is not None else "in the repository",
                "revision": int(pipeline.revision),
            },
        )
        try:
            transaction.commit()
        except TransactionFailed:
            # Another user saved or deleted the pipeline since it was read.
            continue
        return PipelineSaved(pipeline, created=current is None)
    raise Conflict(
        "Too many people save this pipeline at the same time. Check it and try again.", code=ErrorCode.PIPELINE_BUSY
    )


def pipeline_delete(*, actor: Actor, name: str) -> None:
    """Delete the pipeline. Its jobs stay, and its queued jobs still run. Raises Forbidden, InvalidInput, NotFound."""
    policies.pipeline_delete_require(actor)
    pipeline_name_validate(name)
    transaction = Transaction()
    transaction.delete("pipeline", Pipeline(SCOPE, name))
    audit_add(transaction, actor=actor, action=Action.PIPELINE_DELETED, target=f"pipeline:{name}")
    try:
        transaction.commit()
    except TransactionFailed:
        raise NotFound("There is no pipeline of this name.", code=ErrorCode.PIPELINE_NOT_FOUND) from None


def pipeline_learn(*, name: str, git_ref: str, labels: Sequence[str], retries: int, timeout: int | None) -> None:
    """Remember what a job read in the repository's own file, so that the next job waits for the right agents at once.

    Does nothing when the pipeline is gone, has its definition on the server, or has another default ref than `git_ref`.
    There is no audit event, since no user did it. When another write is faster, the next job reports the same again.
    """
    current = Pipeline.find(SCOPE, name)
    if current is None or current.definition or current.default_ref != git_ref:
        return
    learnt = {"labels": list(labels), "retries": retries, "timeout": timeout}
    if all(getattr(current, member) == value for member, value in learnt.items()):
        return
    with suppress(ConditionFailed):
        current.update(actions=_actions(learnt), condition=Pipeline.revision == current.revision)


def _revision_require(current: Pipeline | None, revision: int | None) -> None:
    if revision is None or revision == (int(current.revision) if current else 0):
        return
    if revision == 0:
        raise Conflict("There is already a pipeline of this name. Choose another name.", code=ErrorCode.NAME_TAKEN)
    raise Conflict(
        "Another user changed this pipeline in the meantime. Check it and save again.",
        code=ErrorCode.CHANGED_MEANWHILE,
    )


def _pipeline_write(name: str, current: Pipeline | None, members: dict[str, Any]) -> tuple[Pipeline, Transaction]:
    """The pipeline as it will be, and the transaction that writes it."""
    now = clock.timestamp(clock.now())
    transaction = Transaction()
    if current is None:
        pipeline = Pipeline(SCOPE, name, created_at=now, updated_at=now, **members)
        transaction.put("pipeline", pipeline)
        return pipeline, transaction
    unchanged = Pipeline.revision == current.revision
    changes = {**members, "revision": int(current.revision) + 1, "updated_at": now}
    # An update: where the definition is the repository's, it keeps what jobs have learnt in the meantime.
    transaction.update("pipeline", current, actions=_actions(changes), condition=unchanged)
    for member, value in changes.items():
        setattr(current, member, value)
    return current, transaction


def _actions(members: dict[str, Any]) -> list[Any]:
    """Set each member, or remove it when its value is None."""
    return [
        getattr(Pipeline, member).remove() if value is None else getattr(Pipeline, member).set(value)
        for member, value in members.items()
    ]
