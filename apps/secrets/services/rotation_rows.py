"""Writing the row of a rotation, which one process owns at a time."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import Rotation
from apps.secrets.rotation.steps import RotationState, RotationStep
from apps.secrets.services.rotations import is_final
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Unavailable
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# A step has ended, or its process has, when so much time has passed since its begin was written: each call that a step
# makes is given up within 16 s.
LEASE = timedelta(minutes=3)
_TRIES = 5

Detail = Mapping[str, str | int | None]


class NotOwned(Exception):
    """Another process goes on with the rotation."""


class RotationRow:
    """A rotation that this process owns. Its steps and wishes are as of the last write or read."""

    def __init__(self, rotation: Rotation) -> None:
        self.record = rotation
        self.steps = [RotationStep.of_json(stored) for stored in rotation.steps]
        # The values of versions by their numbers, as far as they were read: they never change.
        self.values: dict[int, str] = {}

    @classmethod
    def take(cls, secret_id: str, entry: str) -> "RotationRow | None":
        """Own the rotation, if it is due and no other process does."""
        rotation = Rotation.find(secret_id, entry)
        now = clock.timestamp(clock.now())
        if rotation is None or is_final(rotation) or (rotation.due_at or "") > now:
            return None
        if rotation.owner and rotation.owned_until > now:
            return None
        revision = int(rotation.revision)
        try:
            rotation.update(
                actions=[
                    Rotation.owner.set(secrets.token_hex(8)),
                    Rotation.owned_until.set(clock.timestamp(clock.now() + LEASE)),
                    Rotation.revision.set(revision + 1),
                ],
                condition=Rotation.revision == revision,
            )
        except ConditionFailed:
            return None
        return cls(rotation)

    @property
    def state(self) -> RotationState:
        return RotationState(self.record.state)

    def step_change(self, number: int, **members: Any) -> list[RotationStep]:
        """The steps, with one of them changed."""
        changed = list(self.steps)
        changed[number] = replace(changed[number], **members)
        return changed

    def write(
        self, *, steps: Sequence[RotationStep] | None = None, audit: Detail | None = None, **members: Any
    ) -> None:
        """Write these members (None removes one), the lease, and an audit event of the step if there is a detail.

        Raises NotOwned, Unavailable.
        """
        for _ in range(_TRIES):
            tx = Transaction()
            self.write_add(tx, steps=steps, **members)
            if audit is not None:
                audit_add(
                    tx,
                    actor=SYSTEM,
                    action=Action.SECRET_ROTATION_STEP,
                    target=f"secret:{self.record.secret_id}",
                    detail={"rotation": str(self.record.entry), **audit},
                )
            try:
                tx.commit()
            except TransactionFailed:
                wishes = self._wishes
                self.read_again()
                if wishes != self._wishes and "due_at" in members:
                    # A wish does not wait.
                    members["due_at"] = clock.timestamp(clock.now())
                if steps is not None and self.steps == list(steps):
                    # The answer to this write was lost.
                    return
                continue
            self.written(steps=steps, **members)
            return
        raise Unavailable("The rotation is being changed. Try again.")

    def write_add(self, tx: Transaction, *, steps: Sequence[RotationStep] | None = None, **members: Any) -> None:
        """Add the write to a transaction. `written` must follow its commit, or `read_again` its failure."""
        wanted = {"owned_until": clock.timestamp(clock.now() + LEASE), **members}
        actions = [
            getattr(Rotation, name).remove() if value is None else getattr(Rotation, name).set(value)
            for name, value in wanted.items()
        ]
        if steps is not None:
            actions.append(Rotation.steps.set([step.as_json() for step in steps]))
        revision = int(self.record.revision)
        tx.update(
            "rotation",
            self.record,
            actions=[*actions, Rotation.revision.set(revision + 1)],
            condition=(Rotation.owner == self.record.owner) & (Rotation.revision == revision),
        )

    def written(self, *, steps: Sequence[RotationStep] | None = None, **members: Any) -> None:
        """Note what a committed transaction has written."""
        self.record.revision = int(self.record.revision) + 1
        for name, value in members.items():
            setattr(self.record, name, value)
        if steps is not None:
            self.steps = list(steps)

    def read_again(self) -> None:
        """Read what has changed: a user may have wished something. Raises NotOwned if this process owns it no more."""
        found = Rotation.find(self.record.secret_id, self.record.entry)
        if found is None or found.owner != self.record.owner:
            raise NotOwned
        self.record = found
        self.steps = [RotationStep.of_json(stored) for stored in found.steps]

    def release(self, *, due_at: str, steps: Sequence[RotationStep] | None = None, **members: Any) -> None:
        """Leave the rotation to a later sweep, from this time on. Raises NotOwned, Unavailable."""
        self.write(steps=steps, due_at=due_at, owner=None, owned_until=None, **members)

    @property
    def _wishes(self) -> tuple[Any, Any]:
        return self.record.stop_requested, self.record.is_urgent
