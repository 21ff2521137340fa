"""Writing pipelines: people save and delete them, and nothing that an agent reports changes them."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple

from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from apps.pipelines import policies
from apps.pipelines.connections import connection_exists
from apps.pipelines.definitions import (
    MAIN_JOB,
    MAX_SERVER_BYTES,
    SECRET_NAME,
    SECRET_NAME_FORM,
    pipeline_name_validate,
)
from apps.pipelines.models import SCOPE, Pipeline, PipelineBinding, binding_scope
from apps.pipelines.parsing import pipeline_parse
from apps.pipelines.refs import ref_validate, repository_allowed_require, repository_validate
from apps.pipelines.selectors import pipeline_get
from apps.pipelines.services.schedules import schedules_delete_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.lib.labels import names_check
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How often a save is tried again when another user saved the pipeline in between.
_TRIES = 5
# The ids of connections, and the full names of repositories as providers have them.
_SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SOURCE_REPOSITORY = re.compile(r"[\w.~-]+(?:/[\w.~-]+){0,20}")
_MAX_SOURCE_REPOSITORY = 300


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
    labels: Sequence[str] | None = None,
    source: str | None = None,
    source_repository: str | None = None,
    badge: bool | None = None,
    fetch_secret: str | None = None,
    revision: int | None = None,
) -> PipelineSaved:
    """Create the pipeline `name`, or replace all of it; of several saves, the last one wins.

    `definition` is YAML, or None for the file ``.hybrid-ci.yml`` of the repository. `labels` are what each job requires
    beside the labels of that file; None keeps the current ones. A definition on the server has its own. `source` is the
    connection whose events of `source_repository` (acme/shop) start runs; None keeps the current one, "" ends it.
    `fetch_secret` names the secret with which agents fetch the repository, and is kept and ended in the same way. With
    `badge`, everyone may see its badge; None keeps what it is. Saving a pipeline that is already like this changes
    nothing and adds no audit event. With `revision`, the save requires that the current pipeline has this revision (0:
    that there is none).

    Raises Forbidden; InvalidInput (for a definition: with the lines of its mistakes); and Conflict with the code
    ``changed_meanwhile`` or ``name_taken`` for another `revision`, ``pipeline_busy`` when too many others save the
    pipeline at the same time.
    """
    policies.pipeline_save_require(actor)
    pipeline_name_validate(name)
    repository_validate(repository)
    repository_allowed_require(repository)
    ref_validate(default_ref, field="default_ref")
    own_labels = _definition_labels(definition) if definition is not None else None
    if labels is not None:
        labels = _labels_check(labels, own_labels)
    for _ in range(_TRIES):
        current = Pipeline.find(SCOPE, name)
        _revision_require(current, revision)
        kept = current.labels if current is not None and labels is None else labels
        wanted: dict[str, Any] = {
            **_binding_check(current, source, source_repository),
            "fetch_secret": _fetch_secret_check(current, fetch_secret),
            "repository": repository,
            "default_ref": default_ref,
            "definition": definition,
            "badge": (current.badge if current is not None else None) if badge is None else badge or None,
            **({"own_labels": list(kept or ())} if own_labels is None else {"definition_labels": own_labels}),
        }
        if current is not None and all(getattr(current, member) == value for member, value in wanted.items()):
            return PipelineSaved(current, created=False)
        before = _described(current) if current else {}
        bound_before = _binding_of(current)
        pipeline, transaction = _pipeline_write(name, current, wanted)
        _binding_follow(transaction, bound_before, _binding_of(pipeline))
        after = _described(pipeline)
        detail: dict[str, str | int] = {**(changes_detail(before, after) if before else _said(after))}
        audit_add(
            transaction,
            actor=actor,
            action=Action.PIPELINE_SAVED,
            target=f"pipeline:{name}",
            detail={**detail, "revision": int(pipeline.revision)},
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


def _described(pipeline: Pipeline) -> dict[str, str | None]:
    """The pipeline for an audit event. A definition on the server has a fingerprint, since it is long."""
    text = pipeline.definition
    digest = sha256(text.encode(errors="replace")).hexdigest()[:12] if text else None
    return {
        "repository": str(pipeline.repository),
        "default_ref": str(pipeline.default_ref),
        "definition": f"on the server ({digest})" if digest else "in the repository",
        "labels": ", ".join(pipeline.labels),
        "badge": "public" if pipeline.badge else "private",
        "source": f"{pipeline.source}: {pipeline.source_repository}" if pipeline.source else None,
        "fetch_secret": pipeline.fetch_secret,
    }


def _said(described: Mapping[str, str | None]) -> dict[str, str]:
    return {member: text for member, text in described.items() if text is not None}


def _binding_check(current: Pipeline | None, source: str | None, repository: str | None) -> dict[str, str | None]:
    """The connection and the repository there, as they will be. Raises InvalidInput."""
    if source is None:
        if repository is not None:
            raise InvalidInput.field("source_repository", "must be given with `source`, the connection that has it")
        kept = (current.source, current.source_repository) if current is not None else (None, None)
        return {"source": kept[0], "source_repository": kept[1]}
    if not source:
        return {"source": None, "source_repository": None}
    if not _SOURCE.fullmatch(source):
        raise InvalidInput.field("source", "must be the id of a connection")
    if not connection_exists(source):
        raise InvalidInput.field("source", f"must be the id of a connection, and there is none with the id {source}")
    if not repository or len(repository) > _MAX_SOURCE_REPOSITORY or not _SOURCE_REPOSITORY.fullmatch(repository):
        raise InvalidInput.field("source_repository", "must be the full name of a repository there, as acme/shop")
    return {"source": source, "source_repository": repository}


def _fetch_secret_check(current: Pipeline | None, name: str | None) -> str | None:
    """The name of the secret for fetching, as it will be. Raises InvalidInput."""
    if name is None:
        return current.fetch_secret if current is not None else None
    if name and not SECRET_NAME.fullmatch(name):
        raise InvalidInput.field("fetch_secret", f"must be the name of a secret: {SECRET_NAME_FORM}")
    return name or None


def _binding_of(pipeline: Pipeline | None) -> PipelineBinding | None:
    if pipeline is None or not pipeline.source:
        return None
    return PipelineBinding(binding_scope(str(pipeline.source), str(pipeline.source_repository)), pipeline.name)


def _binding_follow(transaction: Transaction, before: PipelineBinding | None, after: PipelineBinding | None) -> None:
    """Add that the pipeline is bound, or is no more."""
    if before is not None and after is not None and before.scope == after.scope:
        return
    there_or_not = PipelineBinding.scope.exists() | PipelineBinding.scope.does_not_exist()
    if before is not None:
        transaction.delete("unbound", before, there_or_not)
    if after is not None:
        transaction.put("bound", after, there_or_not)


def pipeline_rename_source(*, actor: Actor, name: str, old: str, new: str, url: tuple[str, str] | None) -> bool:
    """Follow the new name of the repository to which the pipeline is bound. False if it is bound to another one.

    `url` has the address of the repository before and after: the pipeline's own changes if it is the old one.
    """
    for _ in range(_TRIES):
        current = Pipeline.find(SCOPE, name)
        if current is None or str(current.source_repository or "").lower() != old.lower():
            return False
        wanted: dict[str, Any] = {"source_repository": new}
        if url and _address(str(current.repository)) == _address(url[0]):
            wanted["repository"] = url[1]
        before, bound_before = _described(current), _binding_of(current)
        pipeline, transaction = _pipeline_write(name, current, wanted)
        _binding_follow(transaction, bound_before, _binding_of(pipeline))
        detail: dict[str, str | int] = {**changes_detail(before, _described(pipeline))}
        detail["revision"] = int(pipeline.revision)
        audit_add(transaction, actor=actor, action=Action.PIPELINE_SAVED, target=f"pipeline:{name}", detail=detail)
        with suppress(TransactionFailed):
            transaction.commit()
            return True
    raise Conflict(
        "Too many people save this pipeline at the same time. Check it and try again.", code=ErrorCode.PIPELINE_BUSY
    )


def _address(url: str) -> str:
    return url.lower().rstrip("/").removesuffix(".git")


def pipeline_delete(*, actor: Actor, name: str) -> None:
    """Delete the pipeline and its schedules. Its jobs stay, and its queued jobs still run.

    Raises Forbidden, InvalidInput, NotFound.
    """
    policies.pipeline_delete_require(actor)
    pipeline_name_validate(name)
    transaction = Transaction()
    transaction.delete("pipeline", Pipeline(SCOPE, name))
    _binding_follow(transaction, _binding_of(Pipeline.find(SCOPE, name)), None)
    scheduled = schedules_delete_add(transaction, pipeline=name)
    detail = {"schedules": ", ".join(scheduled)} if scheduled else None
    audit_add(transaction, actor=actor, action=Action.PIPELINE_DELETED, target=f"pipeline:{name}", detail=detail)
    try:
        transaction.commit()
    except TransactionFailed:
        raise NotFound("There is no pipeline of this name.", code=ErrorCode.PIPELINE_NOT_FOUND) from None


def pipeline_pause(*, actor: Actor, name: str) -> Pipeline:
    """Let the first jobs of new runs wait until the pipeline is resumed. Pausing again changes nothing.

    Runs that were started before go on. Raises Forbidden, NotFound.
    """
    policies.pipeline_save_require(actor)
    current = pipeline_get(name)
    if current.paused_at:
        return current
    now = clock.timestamp(clock.now())
    changes = [Pipeline.pause_at.set(now), Pipeline.pause_by.set(actor.name), Pipeline.pause_ended_at.remove()]
    is_not_paused = Pipeline.pause_at.does_not_exist() | Pipeline.pause_ended_at.exists()
    return _pause_change(current, changes, is_not_paused, actor, Action.PIPELINE_PAUSED)


def pipeline_resume(*, actor: Actor, name: str) -> Pipeline:
    """End the pause of the pipeline. Resuming again changes nothing. Raises Forbidden, NotFound.

    This queues no job: `apps.jobs.services.runs_resume` also does that.
    """
    policies.pipeline_save_require(actor)
    current = pipeline_get(name)
    if not current.paused_at:
        return current
    ended = [Pipeline.pause_ended_at.set(clock.timestamp(clock.now()))]
    still_paused = (Pipeline.pause_at == current.pause_at) & Pipeline.pause_ended_at.does_not_exist()
    return _pause_change(current, ended, still_paused, actor, Action.PIPELINE_RESUMED)


def _pause_change(current: Pipeline, changes: list[Any], condition: Any, actor: Actor, action: Action) -> Pipeline:
    """The pipeline after the change; or as another user has changed or paused it at the same moment."""
    transaction = Transaction()
    is_there = Pipeline.repository.exists()
    transaction.update("pipeline", Pipeline(SCOPE, current.name), actions=changes, condition=is_there & condition)
    audit_add(transaction, actor=actor, action=action, target=f"pipeline:{current.name}")
    with suppress(TransactionFailed):
        transaction.commit()
    return pipeline_get(str(current.name))


def _definition_labels(text: str) -> list[str]:
    """The labels that all jobs of a definition require; of several jobs, each has its own. Raises InvalidInput."""
    size = len(text.encode(errors="replace"))
    if size > MAX_SERVER_BYTES:
        raise InvalidInput.field(
            "definition",
            f"must be at most {MAX_SERVER_BYTES:,} bytes on the server, not {size:,}; keep a longer one in the "
            "repository",
            code=ErrorCode.DEFINITION_INVALID,
        )
    parsed = pipeline_parse(text)
    return [] if parsed.is_graph else parsed.jobs[MAIN_JOB].labels


def _labels_check(labels: Sequence[str], own_labels: Sequence[str] | None) -> list[str]:
    """The labels for a pipeline with a definition on the server that has its own, None for one in the repository."""
    kept = names_check("labels", labels)
    if own_labels is not None and kept and set(kept) != set(own_labels):
        raise InvalidInput.field("labels", "must be empty, since the definition on the server has its own `labels`")
    return kept


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
