"""Writing schedules: users make, change, pause and delete them. `apps.jobs.services.schedule_starts` starts runs."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from apps.pipelines import policies
from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.models import DUE, SCOPE, SPACE, Pipeline, Schedule
from apps.pipelines.parsing import parameters_check
from apps.pipelines.refs import ref_validate
from apps.pipelines.selectors import pipeline_get, pipeline_parsed, schedule_cron, schedule_get, schedule_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.cron import Cron, cron_validate
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, results_of
from controlplane.nosql.record import compact_json
from controlplane.nosql.transaction import Transaction, TransactionFailed

# A pipeline is deleted with its schedules by one transaction.
MAX_SCHEDULES = 50
# The newest of them that has finished is what "only if something changed" compares with.
_RUNS_KEPT = 10
# How often a change is tried again when the sweep or another user has changed the schedule since it was read.
_TRIES = 5
# What users say of a schedule.
_MEMBERS = ("cron", "zone", "git_ref", "parameters", "only_if_changed")


def schedule_create(
    *,
    actor: Actor,
    pipeline: str,
    name: str,
    cron: str,
    zone: str = "UTC",
    git_ref: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    only_if_changed: bool = False,
) -> Schedule:
    """Start runs of the pipeline at the times of `cron` in the time zone, from now on.

    `git_ref`: None for the pipeline's default ref at that time. With `only_if_changed`, a run ends without its jobs if
    the last finished run of this schedule has built the same commit.

    Raises Forbidden, NotFound for an unknown pipeline, InvalidInput, and Conflict with the code ``name_taken`` or
    ``too_many_schedules``.
    """
    policies.schedule_save_require(actor)
    source = pipeline_get(pipeline)
    if not PIPELINE_NAME.fullmatch(name):
        raise InvalidInput.field(
            "name", "must be 1 to 63 small letters, digits, - and _, beginning with none of these two"
        )
    schedule_id = f"{pipeline}.{name}"
    members: dict[str, Any] = {
        "cron": cron,
        "zone": zone,
        "git_ref": git_ref or None,
        "parameters": dict(parameters) if parameters else None,
        "only_if_changed": only_if_changed,
    }
    when = _members_check(source, schedule_id, members)
    if len(schedule_list(pipeline)) >= MAX_SCHEDULES:
        raise Conflict(
            f"The pipeline has {MAX_SCHEDULES} schedules already. Delete one.", code=ErrorCode.TOO_MANY_SCHEDULES
        )
    moment = clock.now()
    now = clock.timestamp(moment)
    schedule = Schedule(
        SPACE,
        schedule_id,
        pipeline=pipeline,
        name=name,
        created_at=now,
        created_by=actor.name,
        changed_at=now,
        changed_by=actor.name,
        due=DUE,
        due_at=_next(when, moment),
        **members,
    )
    transaction = Transaction()
    transaction.put("schedule", schedule, Schedule.schedule_id.does_not_exist())
    _audit(transaction, schedule, actor, Action.SCHEDULE_CREATED, _described(schedule))
    try:
        transaction.commit()
    except TransactionFailed:
        raise Conflict(
            f"The pipeline {pipeline} already has a schedule {name}. Choose another name.", code=ErrorCode.NAME_TAKEN
        ) from None
    return schedule


def schedule_change(*, actor: Actor, schedule_id: str, revision: int | None = None, **members: Any) -> Schedule:
    """Change members of a schedule: cron, zone, git_ref, parameters, only_if_changed. Others stay as they are.

    A change that changes nothing adds no audit event. A time that is due already stays so, unless the times change.
    With `revision`, the change requires that the schedule still has this revision.

    Raises Forbidden, NotFound, InvalidInput, and Conflict with the code ``changed_meanwhile``.
    """
    policies.schedule_save_require(actor)
    unknown = members.keys() - set(_MEMBERS)
    if unknown:
        raise TypeError(f"a schedule has no {', '.join(sorted(unknown))}")
    for _ in range(_TRIES):
        current = schedule_get(schedule_id)
        if revision is not None and revision != current.revision:
            break
        wanted = {member: members.get(member, getattr(current, member)) for member in _MEMBERS}
        wanted |= {"git_ref": wanted["git_ref"] or None, "parameters": dict(wanted["parameters"] or {}) or None}
        if all(getattr(current, member) == value for member, value in wanted.items()):
            return current
        when = _members_check(pipeline_get(str(current.pipeline)), schedule_id, wanted)
        now = clock.now()
        changes = {**wanted, "changed_at": clock.timestamp(now), "changed_by": actor.name}
        if (wanted["cron"], wanted["zone"]) != (current.cron, current.zone):
            changes |= {"due": DUE, "due_at": _next(when, now)} if not current.paused_at else {}
        transaction = Transaction()
        transaction.update(
            "schedule",
            current,
            actions=[*_actions(changes), Schedule.revision.add(1)],
            condition=_unchanged(current),
        )
        detail = changes_detail(_described(current), _described(Schedule(**{**current.attribute_values, **wanted})))
        _audit(transaction, current, actor, Action.SCHEDULE_CHANGED, detail)
        with suppress(TransactionFailed):
            transaction.commit()
            return schedule_get(schedule_id)
    raise Conflict(
        "Another user changed this schedule in the meantime. Check it and save again.",
        code=ErrorCode.CHANGED_MEANWHILE,
    )


def schedule_pause(*, actor: Actor, schedule_id: str) -> Schedule:
    """Start no runs by this schedule until it is resumed. Pausing again changes nothing. Raises Forbidden, NotFound."""
    policies.schedule_pause_require(actor)
    current = schedule_get(schedule_id)
    if current.paused_at:
        return current
    changes = {"paused_at": clock.timestamp(clock.now()), "paused_by": actor.name, "due": None, "due_at": None}
    return _pause_change(current, changes, Schedule.paused_at.does_not_exist(), actor, Action.SCHEDULE_PAUSED)


def schedule_resume(*, actor: Actor, schedule_id: str) -> Schedule:
    """Start runs again, from the next time on: those that came during the pause are left out.

    Resuming again changes nothing. Raises Forbidden, NotFound, InvalidInput.
    """
    policies.schedule_save_require(actor)
    current = schedule_get(schedule_id)
    if not current.paused_at:
        return current
    changes = {
        "paused_at": None,
        "paused_by": None,
        "problem": None,
        "due": DUE,
        "due_at": _next(schedule_cron(current), clock.now()),
    }
    still_same = (Schedule.paused_at == current.paused_at) & (Schedule.revision == current.revision)
    return _pause_change(current, changes, still_same, actor, Action.SCHEDULE_RESUMED)


def schedule_delete(*, actor: Actor, schedule_id: str) -> None:
    """Delete the schedule. The runs that it has started stay. Raises Forbidden, NotFound."""
    policies.schedule_delete_require(actor)
    schedule = schedule_get(schedule_id)
    transaction = Transaction()
    transaction.delete("schedule", schedule, Schedule.schedule_id.exists())
    _audit(transaction, schedule, actor, Action.SCHEDULE_DELETED, _described(schedule))
    try:
        transaction.commit()
    except TransactionFailed:
        # Another request has deleted it at the same moment.
        schedule_get(schedule_id)


def schedules_delete_add(transaction: Transaction, *, pipeline: str) -> list[str]:
    """Add to the deletion of a pipeline that its schedules go, too. Returns their names."""
    schedules = schedule_list(pipeline)
    for schedule in schedules:
        there_or_not = Schedule.schedule_id.exists() | Schedule.schedule_id.does_not_exist()
        transaction.delete(f"schedule {schedule.name}", schedule, there_or_not)
    return [str(schedule.name) for schedule in schedules]


def schedule_claim_add(
    transaction: Transaction, schedule: Schedule, *, run_id: str, following: datetime | None
) -> None:
    """Add to the start of a run: the time at which the schedule is due is used up, and it is due at `following` next.

    The transaction fails with the label "schedule" if another process was faster, or a user has changed the schedule.
    """
    changes = {
        "last_run_id": run_id,
        "run_ids": [run_id, *schedule.run_ids][:_RUNS_KEPT],
        "problem": None,
    }
    transaction.update(
        "schedule", schedule, actions=_actions(changes | _due_changes(schedule, following)), condition=_due(schedule)
    )


def schedule_pass(schedule: Schedule, *, problem: str, following: datetime | None) -> None:
    """Note why the schedule starts no run for the time at which it is due, and when it is due next.

    A schedule whose pipeline is deleted is deleted with it. If another process was faster, nothing happens.
    """
    transaction = Transaction()
    if Pipeline.find(SCOPE, str(schedule.pipeline)) is None:
        transaction.delete("schedule", schedule, _due(schedule))
        detail = {**_described(schedule), "reason": "its pipeline is deleted"}
        _audit(transaction, schedule, SYSTEM, Action.SCHEDULE_DELETED, detail)
    else:
        changes = {"problem": problem, **_due_changes(schedule, following)}
        transaction.update("schedule", schedule, actions=_actions(changes), condition=_due(schedule))
    with suppress(TransactionFailed):
        transaction.commit()


def _due_changes(schedule: Schedule, following: datetime | None) -> dict[str, Any]:
    return {
        "last_due_at": schedule.due_at,
        "due": DUE if following else None,
        "due_at": clock.timestamp(following) if following else None,
    }


def _due(schedule: Schedule) -> Any:
    """The condition that the schedule is still due at the time that was read, and as users have made it."""
    return (Schedule.due_at == schedule.due_at) & _unchanged(schedule)


def _unchanged(schedule: Schedule) -> Any:
    """The condition that it is the same schedule, which no user has changed, paused or resumed."""
    same = (Schedule.revision == schedule.revision) & (Schedule.created_at == schedule.created_at)
    paused = Schedule.paused_at
    return same & (paused == schedule.paused_at if schedule.paused_at else paused.does_not_exist())


def _pause_change(current: Schedule, changes: dict[str, Any], condition: Any, actor: Actor, action: Action) -> Schedule:
    """The schedule after the change; or as another user has paused or resumed it at the same moment."""
    transaction = Transaction()
    is_there = Schedule.schedule_id.exists()
    transaction.update("schedule", current, actions=_actions(changes), condition=is_there & condition)
    _audit(transaction, current, actor, action, None)
    with suppress(TransactionFailed):
        transaction.commit()
    return schedule_get(str(current.schedule_id))


def _members_check(source: Pipeline, schedule_id: str, members: Mapping[str, Any]) -> Cron:
    """When it is due. Raises InvalidInput for what is wrong with the members of a schedule."""
    parsed, git_ref, given = pipeline_parsed(source), members["git_ref"], members["parameters"] or {}
    when: Cron
    when, *_ = results_of(
        lambda: cron_validate(members["cron"], zone=members["zone"], seed=schedule_id),
        lambda: git_ref is None or ref_validate(git_ref),
        # Those of a file in the repository are checked when it is read.
        lambda: parsed is None or parameters_check(parsed, given),
    )
    return when


def _next(when: Cron, moment: datetime) -> str:
    following = when.after(moment)
    if following is None:
        raise InvalidInput.field("cron", "must be a time that comes")
    return clock.timestamp(following)


def _described(schedule: Schedule) -> dict[str, Any]:
    """The schedule for an audit event."""
    return {
        "cron": str(schedule.cron),
        "zone": str(schedule.zone),
        "git_ref": schedule.git_ref,
        "parameters": compact_json(schedule.parameters) if schedule.parameters else None,
        "only_if_changed": "yes" if schedule.only_if_changed else "no",
    }


def _audit(
    transaction: Transaction, schedule: Schedule, actor: Actor, action: Action, detail: Mapping[str, Any] | None
) -> None:
    audit_add(transaction, actor=actor, action=action, target=f"schedule:{schedule.schedule_id}", detail=detail)


def _actions(members: Mapping[str, Any]) -> list[Any]:
    """Set each member, or remove it when its value is None."""
    return [
        getattr(Schedule, member).remove() if value is None else getattr(Schedule, member).set(value)
        for member, value in members.items()
    ]
