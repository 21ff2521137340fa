"""What happens to pipelines: people save and delete them, and jobs find out what the repository's own file asks for."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from apps.accounts.policies import Permission, permission_require
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.pipelines.definitions import definition_parse, pipeline_name_validate
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.refs import ref_validate, repository_validate
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, NotFound
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How often a pipeline is looked at anew when somebody else has saved it in between.
_TRIES = 5


class PipelineSaved(NamedTuple):
    """The pipeline as it stands now, and whether it is a new one."""

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
    """Make the pipeline `name` be so, whether there was one or not; the last one to save wins.

    With `revision`, only if that is what stands there (0: no pipeline of this name); else raises Conflict with the code
    ``changed_meanwhile`` or ``name_taken``.

    `definition` is YAML, or None for the file ``.hybrid-ci.yml`` of the repository. Saving what stands there already
    changes nothing and is not recorded. Raises Forbidden, InvalidInput (with the lines at fault, for a definition), and
    Conflict when too many others save it at the same time.
    """
    permission_require(actor, Permission.PIPELINES_SAVE)
    pipeline_name_validate(name)
    repository_validate(repository)
    ref_validate(default_ref, field="default_ref")
    parsed = definition_parse(definition) if definition is not None else None
    learnt = {"labels": parsed.labels, "retries": parsed.retries, "timeout": parsed.timeout} if parsed else {}
    wanted = {"repository": repository, "default_ref": default_ref, "definition": definition}
    for _ in range(_TRIES):
        standing = Pipeline.find(SCOPE, name)
        _revision_require(standing, revision)
        if standing is not None and all(getattr(standing, member) == value for member, value in wanted.items()):
            return PipelineSaved(standing, created=False)
        pipeline, transaction = _pipeline_write(name, standing, {**wanted, **learnt})
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
        except TransactionFailed as failure:
            if not _is_done(failure):
                continue
        return PipelineSaved(pipeline, created=standing is None)
    raise Conflict("Others keep saving this pipeline. Please look at it and try again.", code="pipeline_busy")


def pipeline_delete(*, actor: Actor, name: str) -> None:
    """Delete the pipeline. Its jobs stay, and those that wait will still run. Raises Forbidden, NotFound."""
    permission_require(actor, Permission.PIPELINES_DELETE)
    pipeline_name_validate(name)
    transaction = Transaction()
    transaction.delete("pipeline", Pipeline(SCOPE, name))
    audit_add(transaction, actor=actor, action=Action.PIPELINE_DELETED, target=f"pipeline:{name}")
    try:
        transaction.commit()
    except TransactionFailed as failure:
        if not _is_done(failure):
            raise NotFound("There is no pipeline of this name.", code="pipeline_not_found") from None


def pipeline_learn(*, name: str, git_ref: str, labels: Sequence[str], retries: int, timeout: int | None) -> None:
    """Remember what a job found in the repository's own file, so that the next one waits for the right machine at once.

    Does nothing when the pipeline is gone, has its definition on the server, or has another default ref than `git_ref`.
    This is no act of anybody's and is not recorded; when another writer is faster, the next job learns it again.
    """
    standing = Pipeline.find(SCOPE, name)
    if standing is None or standing.definition or standing.default_ref != git_ref:
        return
    learnt = {"labels": list(labels), "retries": retries, "timeout": timeout}
    if all(getattr(standing, member) == value for member, value in learnt.items()):
        return
    with suppress(ConditionFailed):
        standing.update(actions=_actions(learnt), condition=Pipeline.revision == standing.revision)


def _revision_require(standing: Pipeline | None, revision: int | None) -> None:
    if revision is None or revision == (int(standing.revision) if standing else 0):
        return
    if revision == 0:
        raise Conflict("There is a pipeline of this name already.", code="name_taken")
    raise Conflict("Somebody else has changed this pipeline in the meantime.", code="changed_meanwhile")


def _pipeline_write(name: str, standing: Pipeline | None, members: dict[str, Any]) -> tuple[Pipeline, Transaction]:
    """The pipeline as it will be, and the transaction that makes it so."""
    now = clock.timestamp(clock.now())
    transaction = Transaction()
    if standing is None:
        pipeline = Pipeline(SCOPE, name, created_at=now, updated_at=now, **members)
        transaction.put("pipeline", pipeline)
        return pipeline, transaction
    unchanged = Pipeline.revision == standing.revision
    changes = {**members, "revision": int(standing.revision) + 1, "updated_at": now}
    # An update, since what jobs have learnt in the meantime is kept when the definition is the repository's.
    transaction.update("pipeline", standing, actions=_actions(changes), condition=unchanged)
    for member, value in changes.items():
        setattr(standing, member, value)
    return standing, transaction


def _is_done(failure: TransactionFailed) -> bool:
    """Whether the transaction was written before and only its answer was lost: its own audit record stands there."""
    return failure.failed.get("audit") is not None


def _actions(members: dict[str, Any]) -> list[Any]:
    """Set each member, or remove it when its value is None."""
    return [
        getattr(Pipeline, member).remove() if value is None else getattr(Pipeline, member).set(value)
        for member, value in members.items()
    ]
