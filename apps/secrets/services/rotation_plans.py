"""How a secret is rotated: by which rotator, into which targets, and when."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import ALARM, PLAN, PLANNED, Rotation, RotationAlarm, RotationPlan
from apps.secrets.policies import rotations_configure_require
from apps.secrets.rotation.registry import config_validate, rotator_find, target_find
from apps.secrets.rotation.schedules import Schedule, schedule_validate
from apps.secrets.rotation.steps import MAX_OVERLAP_MINUTES, MAX_TARGETS, ROTATOR, STORE
from apps.secrets.selectors import secret_get
from apps.secrets.selectors.rotations import plan_find, plan_get
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.lib.rotation import Rotator, System
from controlplane.nosql.transaction import Transaction, TransactionFailed

DEFAULT_OVERLAP_MINUTES = 60 * 24
WHATEVER_IS_THERE = RotationAlarm.entry.exists() | RotationAlarm.entry.does_not_exist()
# What a user says of a plan.
_CONFIGURED = ("rotator", "rotator_config", "targets", "schedule", "overlap_minutes")
_NAME_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"


def rotation_configure(
    *,
    actor: Actor,
    secret_id: str,
    rotator: str,
    config: Mapping[str, Any] | None = None,
    targets: list[dict[str, Any]] | None = None,
    schedule: dict[str, Any] | None = None,
    overlap_minutes: int | None = None,
) -> RotationPlan:
    """Say how the secret is rotated. A rotation that goes on is not changed.

    `targets` are ``{"name", "kind", "config"}``. `overlap_minutes` is how long the old value stays valid after the
    change. The same configuration again changes nothing. Raises Forbidden, NotFound, InvalidInput, or Conflict with the
    code ``changed_meanwhile``.
    """
    rotations_configure_require(actor)
    secret = secret_get(secret_id)
    found = rotator_find(rotator)
    complete = config_validate(found, {} if config is None else config, field="config")
    _credentials_check(found, complete, secret_id, field="config")
    wanted = _targets_validate(targets or [], secret_id)
    when = schedule_validate(schedule)
    before = plan_find(secret_id)
    now = clock.now()
    if before is not None and before.last_rotated_at:
        last = clock.parse_timestamp(before.last_rotated_at)
    else:
        last = clock.parse_timestamp(secret.changed_at)
    plan = RotationPlan(
        secret_id,
        PLAN,
        rotator=rotator,
        rotator_config=complete,
        targets=wanted,
        schedule=when.as_json() if when else None,
        overlap_minutes=_overlap(found, complete, overlap_minutes),
        revision=int(before.revision) + 1 if before else 1,
        changed_at=clock.timestamp(now),
        changed_by=actor.name,
        open=before.open if before else None,
        last=before.last if before else None,
        last_began_at=before.last_began_at if before else None,
        last_rotated_at=before.last_rotated_at if before else None,
    )
    if before is not None and all(getattr(plan, name) == getattr(before, name) for name in _CONFIGURED):
        return before
    if not plan.open:
        plan.due, plan.due_at = due_of(when, last)
    return _plan_write(plan, before, actor=actor, schedule=when)


def rotation_configuration_delete(*, actor: Actor, secret_id: str) -> None:
    """Rotate the secret no more. Its rotations stay readable.

    Raises Forbidden, NotFound, or Conflict with the code ``rotation_in_progress`` during a rotation.
    """
    rotations_configure_require(actor)
    plan = plan_get(secret_id)
    if plan.open:
        raise in_progress(plan)
    tx = Transaction()
    tx.delete("plan", plan, (RotationPlan.revision == plan.revision) & RotationPlan.open.does_not_exist())
    tx.delete("alarm", RotationAlarm(secret_id, ALARM), WHATEVER_IS_THERE)
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_ROTATION_CONFIGURED,
        target=f"secret:{secret_id}",
        detail={"rotator": f"{plan.rotator} → –"},
    )
    try:
        tx.commit()
    except TransactionFailed:
        if plan_find(secret_id) is not None:
            raise _changed() from None


def plan_remove_add(tx: Transaction, secret_id: str) -> None:
    """Add to the deletion of a secret: its plan goes, too, and the transaction fails while a rotation goes on."""
    tx.delete("plan", RotationPlan(secret_id, PLAN), RotationPlan.open.does_not_exist())
    tx.delete("alarm", RotationAlarm(secret_id, ALARM), WHATEVER_IS_THERE)


def due_of(schedule: Schedule | None, last: datetime) -> tuple[str | None, str | None]:
    """The members `due` and `due_at` of a plan whose last rotation began at `last`."""
    return (PLANNED, clock.timestamp(schedule.after(last))) if schedule else (None, None)


def in_progress(plan: RotationPlan) -> Conflict:
    """The error for a second rotation of a secret: it names the first one."""
    rotation = Rotation.find(plan.secret_id, str(plan.open))
    since = f" since {rotation.began_at[:16].replace('T', ' ')} UTC ({rotation.state})" if rotation else ""
    return Conflict(
        f"The rotation {plan.secret_id}.{plan.open} of this secret goes on{since}. Wait until it has ended, or end it.",
        code=ErrorCode.ROTATION_IN_PROGRESS,
    )


def _plan_write(
    plan: RotationPlan, before: RotationPlan | None, *, actor: Actor, schedule: Schedule | None
) -> RotationPlan:
    tx = Transaction()
    if before is None:
        tx.put("plan", plan)
    else:
        unchanged = RotationPlan.revision == before.revision
        is_open = RotationPlan.open
        tx.put("plan", plan, unchanged & (is_open == before.open if before.open else is_open.does_not_exist()))
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_ROTATION_CONFIGURED,
        target=f"secret:{plan.secret_id}",
        detail={
            "rotator": f"{before.rotator if before else '–'} → {plan.rotator}",
            "targets": "; ".join(place_of(target) for target in plan.targets) or None,
            "schedule": schedule.as_text() if schedule else None,
            "overlap_minutes": int(plan.overlap_minutes),
        },
    )
    try:
        tx.commit()
    except TransactionFailed:
        stored = plan_find(str(plan.secret_id))
        # The answer to this write was lost.
        if stored is None or (stored.revision, stored.changed_at) != (plan.revision, plan.changed_at):
            raise _changed() from None
    return plan


def schedule_text(plan: RotationPlan) -> str | None:
    """When the secret is rotated, for people; None if only by hand."""
    schedule = schedule_validate(plan.schedule)
    return schedule.as_text() if schedule else None


def place_of(target: Mapping[str, Any]) -> str:
    """Where a target's copy is, for people."""
    try:
        return target_find(target["kind"]).place(target["config"])
    except InvalidInput:
        # A setting named its class when the plan was made.
        return str(target["kind"])


def _targets_validate(targets: list[dict[str, Any]], secret_id: str) -> list[dict[str, Any]]:
    import re

    if len(targets) > MAX_TARGETS:
        raise InvalidInput.field("targets", f"must be at most {MAX_TARGETS}, not {len(targets)}")
    wanted: dict[str, dict[str, Any]] = {}
    for number, target in enumerate(targets):
        field = f"targets.{number}"
        if not isinstance(target, dict) or not {"name", "kind"} <= target.keys() <= {"name", "kind", "config"}:
            raise InvalidInput.field(field, "must be an object with name, kind and config")
        name, kind = target["name"], target["kind"]
        if not isinstance(name, str) or not re.fullmatch(_NAME_PATTERN, name) or name in {ROTATOR, STORE, *wanted}:
            raise InvalidInput.field(
                f"{field}.name", "must be 1 to 40 small letters, digits and -, another one for each target"
            )
        system = target_find(kind)
        complete = config_validate(system, target.get("config", {}), field=f"{field}.config")
        _credentials_check(system, complete, secret_id, field=f"{field}.config")
        wanted[name] = {"name": name, "kind": kind, "config": complete}
    return list(wanted.values())


def _credentials_check(system: System, config: Mapping[str, Any], secret_id: str, *, field: str) -> None:
    """Each secret that the configuration names must exist, and not be the one that is rotated."""
    for name, option in system.options.items():
        if not option.names_secret or not config[name]:
            continue
        if config[name] == secret_id:
            raise InvalidInput.field(f"{field}.{name}", "must be another secret than the one that is rotated")
        try:
            secret_get(config[name])
        except NotFound:
            raise InvalidInput.field(f"{field}.{name}", "must be the id of a secret that exists") from None


def _overlap(rotator: Rotator, config: Mapping[str, Any], minutes: int | None) -> int:
    least = -(-int(rotator.least_overlap(config) / timedelta(minutes=1) * 60) // 60)
    wanted = max(DEFAULT_OVERLAP_MINUTES, least) if minutes is None else minutes
    if not least <= wanted <= MAX_OVERLAP_MINUTES:
        raise InvalidInput.field("overlap_minutes", f"must be a number from {least} to {MAX_OVERLAP_MINUTES}")
    return wanted


def _changed() -> Conflict:
    return Conflict(
        "Another user changed this configuration at the same moment. Check it and repeat the change.",
        code=ErrorCode.CHANGED_MEANWHILE,
    )
