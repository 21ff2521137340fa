"""What users and schedules want of rotations: to begin, to be reverted, to end early. `rotation_advance` does it."""

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import OPEN, PLAN, Rotation, RotationPlan
from apps.secrets.policies import rotations_configure_require, secrets_manage_require
from apps.secrets.rotation.steps import FINAL, RotationState, RotationStep, step_next, steps_first
from apps.secrets.selectors import secret_get
from apps.secrets.selectors.rotations import plan_get, rotation_get
from apps.secrets.services.rotation_plans import in_progress
from apps.secrets.services.versions import rotation_in_progress
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

BY_SCHEDULE = "schedule"
# In these states each step has to succeed.
_ONLY_FORWARD = (RotationState.RETIRING, RotationState.REVERTING)


def secret_rotate(*, actor: Actor, secret_id: str, due_at: str | None = None) -> Rotation:
    """Begin a rotation of the secret, which the sweep then does step by step.

    `due_at`: only if the plan is still due at this time, for the schedule. Raises Forbidden, NotFound, Conflict with
    the code ``rotation_in_progress`` if another rotation of it goes on, ``changed_meanwhile`` if the plan changes.
    """
    secrets_manage_require(actor)
    secret = secret_get(secret_id)
    plan = plan_get(secret_id)
    if plan.open:
        raise in_progress(plan)
    if secret.pending:
        raise rotation_in_progress(secret)
    now = clock.timestamp(clock.now())
    rotation = Rotation(
        secret_id,
        new_id(),
        state=RotationState.ROTATING.value,
        requested_by=BY_SCHEDULE if due_at else actor.name,
        rotator=plan.rotator,
        rotator_config=plan.rotator_config,
        targets=plan.targets,
        overlap_minutes=plan.overlap_minutes,
        old_version=secret.current,
        steps=[step.as_json() for step in steps_first([target["name"] for target in plan.targets])],
        began_at=now,
        due=OPEN,
        due_at=now,
    )
    is_same = (RotationPlan.revision == plan.revision) & RotationPlan.open.does_not_exist()
    tx = Transaction()
    tx.put("rotation", rotation)
    tx.update(
        "plan",
        RotationPlan(secret_id, PLAN),
        actions=[
            RotationPlan.open.set(rotation.entry),
            RotationPlan.last.set(rotation.entry),
            RotationPlan.last_began_at.set(now),
            RotationPlan.due.remove(),
            RotationPlan.due_at.remove(),
        ],
        condition=is_same if due_at is None else is_same & (RotationPlan.due_at == due_at),
    )
    audit_add(
        tx,
        actor=actor,
        action=Action.SECRET_ROTATION_STARTED,
        target=f"secret:{secret_id}",
        detail={
            "rotation": str(rotation.entry),
            "rotator": plan.rotator,
            "version": int(secret.current),
            "fingerprint": secret.fingerprint,
            "by": rotation.requested_by,
        },
    )
    try:
        tx.commit()
    except TransactionFailed:
        again = plan_get(secret_id)
        if again.open == rotation.entry:
            return rotation
        if again.open:
            raise in_progress(again) from None
        raise Conflict(
            "The configuration was changed at the same moment. Check it and rotate again.",
            code=ErrorCode.CHANGED_MEANWHILE,
        ) from None
    return rotation


def rotation_stop(*, actor: Actor, rotation_id: str) -> None:
    """Revert the rotation instead of going on. Stopping it again changes nothing.

    Raises Forbidden, NotFound, or Conflict with the code ``rotation_state`` once the new value is current.
    """
    secrets_manage_require(actor)
    rotation = rotation_get(rotation_id)
    if rotation.stop_requested or rotation.state == RotationState.REVERTING:
        return
    _want(
        rotation,
        actor,
        action=Action.SECRET_ROTATION_STOPPED,
        states=(RotationState.ROTATING,),
        wish=Rotation.stop_requested.set(actor.name),
        refused="Its new value is current already, or it has ended: it cannot be stopped.",
    )


def rotation_hasten(*, actor: Actor, rotation_id: str) -> None:
    """End the old value now, instead of waiting for clients that still use it. Again, that changes nothing.

    Raises Forbidden, NotFound, or Conflict with the code ``rotation_state`` if the rotation has ended.
    """
    secrets_manage_require(actor)
    rotation = rotation_get(rotation_id)
    if rotation.is_urgent:
        return
    _want(
        rotation,
        actor,
        action=Action.SECRET_ROTATION_HASTENED,
        states=(RotationState.ROTATING, RotationState.OVERLAP, RotationState.RETIRING),
        wish=Rotation.is_urgent.set(True),
        refused="It has ended, or is being reverted.",
    )


def rotation_step_give_up(*, actor: Actor, rotation_id: str) -> None:
    """Go on without the step that keeps failing, because its system is gone. What that system has is not looked at.

    Raises Forbidden, NotFound, or Conflict with the code ``rotation_state`` unless a step fails that has to succeed.
    """
    rotations_configure_require(actor)
    rotation = rotation_get(rotation_id)
    steps = [RotationStep.of_json(stored) for stored in rotation.steps]
    number = step_next(steps)
    if rotation.state not in _ONLY_FORWARD or number is None or not steps[number].calls:
        raise Conflict(
            "No step of it fails that has to succeed. Stop the rotation, or wait.", code=ErrorCode.ROTATION_STATE
        )
    _want(
        rotation,
        actor,
        action=Action.SECRET_ROTATION_STEP_GIVEN_UP,
        states=_ONLY_FORWARD,
        wish=Rotation.given_up.set(number),
        refused="It has ended.",
        act=steps[number].act,
        system=steps[number].system,
    )


def _want(
    rotation: Rotation,
    actor: Actor,
    *,
    action: Action,
    states: tuple[RotationState, ...],
    wish: object,
    refused: str,
    **detail: str,
) -> None:
    tx = Transaction()
    tx.update(
        "rotation",
        rotation,
        actions=[
            wish,  # type: ignore[list-item]
            Rotation.due_at.set(clock.timestamp(clock.now())),
            # A process that owns the rotation fails to write its next step, and reads the wish.
            Rotation.revision.add(1),
        ],
        condition=Rotation.state.is_in(*(state.value for state in states)),
    )
    audit_add(
        tx,
        actor=actor,
        action=action,
        target=f"secret:{rotation.secret_id}",
        detail={"rotation": str(rotation.entry), "state": str(rotation.state), **detail},
    )
    try:
        tx.commit()
    except TransactionFailed:
        raise Conflict(refused, code=ErrorCode.ROTATION_STATE) from None


def is_final(rotation: Rotation) -> bool:
    """Whether the rotation has ended."""
    return rotation.state in FINAL
