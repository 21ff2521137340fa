"""Doing the steps of rotations, one after another, so that any process can go on where another one has ended.

Before each step its begin is written, and after it its end, by the one process that owns the rotation. When a process
ends in between, the next sweep finds a step that has begun, and calls it again as a repeated one: rotators and targets
then look first what is there.
"""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import ALARM, PLAN, Rotation, RotationAlarm, RotationPlan
from apps.secrets.rotation.registry import rotator_find, target_find
from apps.secrets.rotation.schedules import schedule_validate
from apps.secrets.rotation.steps import (
    ROTATOR,
    STORE,
    Act,
    RotationState,
    RotationStep,
    notes_of,
    step_next,
    steps_reverting,
)
from apps.secrets.selectors import secret_get, version_get
from apps.secrets.selectors.rotations import plan_find
from apps.secrets.services.rotation_plans import WHATEVER_IS_THERE, due_of
from apps.secrets.services.rotation_rows import NotOwned, RotationRow
from apps.secrets.services.values import value_decrypt
from apps.secrets.services.versions import (
    version_activate_add,
    version_add,
    version_retire,
    version_revert,
    version_value,
)
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unavailable
from controlplane.lib.rotation import NotYet, Step, StepRefused, System
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# How often a step is called whose system does not answer, until the rotation is reverted; and how long after each call.
_CALLS = 5
_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (15, 60, 120, 300, 900, 3600))
# A step that must succeed rings the alarm when it has failed so often.
_ALARM_CALLS = 3
# A rotation by schedule that has failed is tried again so much later.
_AGAIN_AFTER = timedelta(days=1)
# What these do is written to the audit trail before they do it.
_AUDITED = frozenset({Act.MAKE, Act.APPLY, Act.COMMIT, Act.REVERT})


def rotation_advance(*, secret_id: str, entry: str, until: float) -> None:
    """Go on with a rotation until it waits, has ended, or `until` (of the monotonic clock) has come.

    Another process may own it; then nothing happens. Raises Unavailable when DynamoDB or KMS does not answer.
    """
    row = RotationRow.take(secret_id, entry)
    if row is None:
        return
    try:
        while time.monotonic() < until:
            if not _go_on(row):
                return
        row.release(due_at=clock.timestamp(clock.now()))
    except NotOwned:
        logger.info("another process goes on with the rotation %s", row.record.rotation_id)


def _go_on(row: RotationRow) -> bool:
    """Do the next step. False if the rotation waits or has ended."""
    if row.record.stop_requested and row.state == RotationState.ROTATING:
        _fail(row, f"{row.record.stop_requested} stopped it.")
        return True
    number = step_next(row.steps)
    if number is None:
        _end(row)
        return False
    step = row.steps[number]
    if row.record.given_up == number:
        steps = row.step_change(
            number, failed_at=clock.timestamp(clock.now()), message=f"It was given up: {step.message}"
        )
        row.write(steps=steps, given_up=None, message=None)
        return True
    is_repeated = step.begun_at is not None
    if not is_repeated:
        state = RotationState.RETIRING if row.state == RotationState.OVERLAP else row.state
        steps = row.step_change(number, begun_at=clock.timestamp(clock.now()))
        row.write(steps=steps, state=state.value, audit=_audit_detail(row, step))
    return _step_do(row, number, is_repeated=is_repeated)


def _step_do(row: RotationRow, number: int, *, is_repeated: bool) -> bool:
    """Call the step and write what came of it. False if the rotation waits."""
    step = row.steps[number]
    try:
        notes = _called(row, step, is_repeated=is_repeated)
    except NotYet as wait:
        return _wait(row, number, wait)
    except (StepRefused, InvalidInput, Conflict, NotFound) as refusal:
        return _failure(row, number, str(refusal), may_pass=False)
    except Unavailable as failure:
        return _failure(row, number, failure.message, may_pass=True)
    except NotOwned:
        raise
    except Exception as failure:  # noqa: BLE001 — a rotator or target of a team may raise anything, also with a secret
        logger.warning("The step %s of %s failed: %s", step.act, _named(row, step.system), type(failure).__name__)
        return _failure(row, number, f"It failed with {type(failure).__name__}.", may_pass=True)
    if step.act == Act.ACTIVATE:
        # It has written its own end.
        return False
    kept = {**row.steps[number].notes, **(notes or {})}
    steps = row.step_change(number, done_at=clock.timestamp(clock.now()), notes=kept, message=None)
    row.write(steps=steps, message=None)
    return True


def _called(row: RotationRow, step: RotationStep, *, is_repeated: bool) -> Mapping[str, str] | None:
    if step.system == STORE:
        _OF_THE_STORE[Act(step.act)](row, step)
        return None
    if step.act == Act.MAKE:
        _make(row, step, is_repeated=is_repeated)
        return None
    context = _context(row, step, is_repeated=is_repeated)
    if step.act == Act.COMMIT and context.old in ("", context.new):
        return {"skipped": "the old value has no end: it was set again, or is deleted"}
    method: Callable[[Step], Mapping[str, str] | None] = getattr(_system(row, step.system), step.act)
    return method(context)


def _wait(row: RotationRow, number: int, wait: NotYet) -> bool:
    """What a step that goes on later means: to wait, to call it again at once, or that its time is over."""
    step = row.steps[number]
    now = clock.now()
    notes = {**step.notes, **wait.notes}
    patience = _system(row, step.system).patience
    # A step that names a later time than its patience waits on purpose.
    if now - clock.parse_timestamp(str(step.begun_at)) > patience > wait.after:
        return _failure(row, number, f"{wait} It took too long.", may_pass=row.state != RotationState.ROTATING)
    steps = row.step_change(number, notes=notes, message=str(wait))
    if wait.after <= timedelta():
        row.write(steps=steps, message=str(wait))
        return True
    row.release(steps=steps, due_at=clock.timestamp(now + wait.after), message=str(wait))
    return False


def _failure(row: RotationRow, number: int, message: str, *, may_pass: bool) -> bool:
    """What a failed call means: another call later, or that the rotation is reverted."""
    step = row.steps[number]
    calls = step.calls + 1
    if row.state == RotationState.ROTATING and not (may_pass and calls < _CALLS):
        _fail(row, f"{step.act} of {_named(row, step.system)}: {message}")
        return True
    # After the new value has become current, and while the old one is restored, each step must succeed at last.
    if row.state != RotationState.ROTATING and calls == _ALARM_CALLS:
        _alarm(row)
    pause = _PAUSES[min(calls, len(_PAUSES)) - 1]
    row.release(
        steps=row.step_change(number, calls=calls, message=message),
        due_at=clock.timestamp(clock.now() + pause),
        message=message,
    )
    return False


def _fail(row: RotationRow, message: str) -> None:
    """From now on, revert what was applied."""
    logger.warning("The rotation %s fails and is reverted: %s", row.record.rotation_id, message)
    steps = steps_reverting(row.steps, at=clock.timestamp(clock.now()), message=message)
    row.write(steps=steps, state=RotationState.REVERTING.value, reason=message, message=None)


# --- steps of the store -----------------------------------------------------------------------------------------------


def _make(row: RotationRow, step: RotationStep, *, is_repeated: bool) -> None:
    """The new value, as a pending version of the secret."""
    record = row.record
    rotator = rotator_find(str(record.rotator))
    secret_id = str(record.secret_id)
    secret = secret_get(secret_id)
    if int(secret.current) != int(record.old_version):
        raise StepRefused("A user has set another value since the rotation began.")
    if secret.pending is not None and version_get(secret_id, int(secret.pending)).rotation_id == record.rotation_id:
        number = int(secret.pending)
    else:
        value = rotator.make(_context(row, step, is_repeated=is_repeated))
        number = version_add(actor=SYSTEM, secret_id=secret_id, value=value, rotation_id=record.rotation_id)
    row.write(new_version=number)


def _activate(row: RotationRow, step: RotationStep) -> None:
    """Make the pending version current, in the transaction that begins the overlap."""
    record = row.record
    now = clock.now()
    overlap_until = now if record.is_urgent else now + timedelta(minutes=int(record.overlap_minutes))
    members: dict[str, Any] = {
        "steps": row.step_change(row.steps.index(step), done_at=clock.timestamp(now)),
        "state": RotationState.OVERLAP.value,
        "activated_at": clock.timestamp(now),
        "overlap_until": clock.timestamp(overlap_until),
        "due_at": clock.timestamp(overlap_until),
        "message": None,
        "owner": None,
        "owned_until": None,
    }
    tx = Transaction()
    version_activate_add(tx, actor=SYSTEM, secret=secret_get(str(record.secret_id)))
    row.write_add(tx, **members)
    tx.update(
        "plan",
        RotationPlan(record.secret_id, PLAN),
        actions=[RotationPlan.last_rotated_at.set(clock.timestamp(now))],
        condition=RotationPlan.open == record.entry,
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        # It raises NotOwned if the answer to this transaction was lost.
        row.read_again()
        if {"secret", "plan"} & error.failed.keys():
            raise StepRefused("The secret was changed at the same moment.") from None
        raise Unavailable("The rotation is being changed. Try again.") from None


def _retire(row: RotationRow, _step: RotationStep) -> None:
    record = row.record
    _ended(version_retire, str(record.secret_id), int(record.old_version))


def _withdraw(row: RotationRow, _step: RotationStep) -> None:
    record = row.record
    number = record.new_version
    if not number:
        # The process ended after it had added the version, before it could note its number.
        try:
            number = secret_get(str(record.secret_id)).pending
        except NotFound:
            return
    if number and version_get(str(record.secret_id), int(number)).rotation_id == record.rotation_id:
        _ended(version_revert, str(record.secret_id), int(number))


def _ended(end: Callable[..., None], secret_id: str, number: int) -> None:
    """End a version, if it is still there: its secret may be deleted."""
    try:
        end(actor=SYSTEM, secret_id=secret_id, number=number)
    except NotFound:
        return
    except Conflict:
        if version_get(secret_id, number).encrypted:
            raise Unavailable("The secret is being changed. Try again.") from None


_OF_THE_STORE: Mapping[Act, Callable[[RotationRow, RotationStep], None]] = {
    Act.ACTIVATE: _activate,
    Act.RETIRE: _retire,
    Act.WITHDRAW: _withdraw,
}


# --- the end ----------------------------------------------------------------------------------------------------------


def _end(row: RotationRow) -> None:
    """End the rotation: the plan is free for the next one."""
    record = row.record
    failed = row.state == RotationState.REVERTING
    state = RotationState.FAILED if failed else RotationState.COMPLETED
    now = clock.now()
    plan = plan_find(str(record.secret_id))
    tx = Transaction()
    ended = clock.timestamp(now)
    row.write_add(tx, state=state.value, ended_at=ended, owner=None, owned_until=None, due=None, due_at=None)
    if plan is not None and plan.open == record.entry:
        _plan_free_add(tx, plan, record, failed=failed)
    if failed and not record.stop_requested:
        tx.put("alarm", _alarm_of(record, ended), WHATEVER_IS_THERE)
    elif not failed:
        tx.delete("alarm", RotationAlarm(record.secret_id, ALARM), WHATEVER_IS_THERE)
    audit_add(
        tx,
        actor=SYSTEM,
        action=Action.SECRET_ROTATION_FAILED if failed else Action.SECRET_ROTATION_COMPLETED,
        target=f"secret:{record.secret_id}",
        result="failed" if failed else "ok",
        detail={
            "rotation": str(record.entry),
            "version": int((record.old_version if failed else record.new_version) or 0),
            "reason": record.reason,
        },
    )
    try:
        tx.commit()
    except TransactionFailed:
        row.read_again()
        # The plan or a wish has changed: the next sweep ends it.
        row.release(due_at=clock.timestamp(now))
        return
    if failed:
        logger.error("The rotation %s has failed; the old value is current: %s", record.rotation_id, record.reason)


def _plan_free_add(tx: Transaction, plan: RotationPlan, record: Rotation, *, failed: bool) -> None:
    schedule = schedule_validate(plan.schedule)
    due, due_at = due_of(schedule, clock.parse_timestamp(str(record.began_at)))
    if due and failed and not record.stop_requested:
        due_at = clock.timestamp(clock.now() + _AGAIN_AFTER)
    marks = [RotationPlan.due.set(due), RotationPlan.due_at.set(due_at)] if due and due_at else []
    tx.update(
        "plan",
        RotationPlan(plan.secret_id, PLAN),
        actions=[RotationPlan.open.remove(), *marks],
        condition=(RotationPlan.open == record.entry) & (RotationPlan.revision == plan.revision),
    )


def _alarm(row: RotationRow) -> None:
    """Ring the alarm for a rotation that does not get on."""
    try:
        _alarm_of(row.record, clock.timestamp(clock.now())).save()
    except (ConditionFailed, Unavailable):
        logger.warning("the alarm about the rotation %s could not be written", row.record.rotation_id)


def _alarm_of(record: Rotation, at: str) -> RotationAlarm:
    return RotationAlarm(record.secret_id, ALARM, failed=record.entry, due_at=at)


# --- what steps work with ---------------------------------------------------------------------------------------------


def _system(row: RotationRow, name: str) -> System:
    try:
        if name == ROTATOR:
            return rotator_find(str(row.record.rotator))
        return target_find(_target(row, name)["kind"])
    except InvalidInput:
        raise StepRefused("Its class is no longer named in the settings.") from None


def _target(row: RotationRow, name: str) -> Mapping[str, Any]:
    return next(target for target in row.record.targets if target["name"] == name)


def _config(row: RotationRow, name: str) -> Mapping[str, Any]:
    config: Mapping[str, Any] = row.record.rotator_config if name == ROTATOR else _target(row, name)["config"]
    return config


def _named(row: RotationRow, name: str) -> str:
    """A system for people."""
    if name == STORE:
        return "the store"
    return f"{name} ({row.record.rotator if name == ROTATOR else _target(row, name)['kind']})"


def _context(row: RotationRow, step: RotationStep, *, is_repeated: bool) -> Step:
    record = row.record
    secret_id = str(record.secret_id)
    old = _value(row, int(record.old_version))
    new = _value(row, int(record.new_version)) if record.new_version else ""
    if step.act == Act.COMMIT:
        # A user may have set another value during the overlap.
        new = _value(row, int(secret_get(secret_id).current))
    elif not old:
        raise StepRefused("The secret was changed or deleted during the rotation.")
    return Step(
        step_id=f"{record.rotation_id}.{step.system}.{step.act}",
        rotation_id=record.rotation_id,
        secret_id=secret_id,
        config=_config(row, step.system),
        old=old,
        new=new,
        notes=notes_of(row.steps, step.system),
        began_at=clock.parse_timestamp(record.began_at),
        is_repeated=is_repeated,
        is_urgent=bool(record.is_urgent),
        credential=_credential,
    )


def _value(row: RotationRow, number: int) -> str:
    """The value of a version, or an empty text if it has ended."""
    if number not in row.values:
        version = version_get(str(row.record.secret_id), number)
        row.values[number] = value_decrypt(version) if version.encrypted else ""
    return row.values[number]


def _credential(secret_id: str) -> str:
    try:
        return version_value(secret_id=secret_id, number=int(secret_get(secret_id).current))
    except (NotFound, Conflict):
        raise StepRefused(f"The secret {secret_id} with its credentials does not exist any more.") from None


def _audit_detail(row: RotationRow, step: RotationStep) -> dict[str, str | int | None] | None:
    """What the audit trail says of a step before it is done; None if it changes nothing outside."""
    if step.act not in _AUDITED:
        return None
    try:
        system = _system(row, step.system)
    except StepRefused:
        # The step itself says so.
        return None
    config = _config(row, step.system)
    used = [str(config[name]) for name, option in system.options.items() if option.names_secret and config.get(name)]
    record = row.record
    reverts = step.act == Act.REVERT
    return {
        "act": str(step.act),
        "system": _named(row, step.system),
        "place": system.place(config),
        "version": int((record.old_version if reverts else record.new_version) or 0) or None,
        "credentials": ", ".join(used) or None,
    }
