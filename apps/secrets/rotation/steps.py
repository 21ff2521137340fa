"""The steps of a rotation as values: which there are, which is next, and what a failure changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from typing import Any

from controlplane.lib.frozen import frozen

# The limits of a configuration.
MAX_TARGETS = 10
MAX_OVERLAP_MINUTES = 60 * 24 * 30
# The names of systems that are no targets.
ROTATOR = "rotator"
STORE = "store"


class RotationState(StrEnum):
    """How far a rotation is. Until it is in its overlap, a failure reverts it; from then on it only goes forward."""

    ROTATING = "rotating"
    OVERLAP = "overlap"
    RETIRING = "retiring"
    COMPLETED = "completed"
    REVERTING = "reverting"
    FAILED = "failed"


FINAL = frozenset({RotationState.COMPLETED, RotationState.FAILED})


class Act(StrEnum):
    """What a step does: those of rotators and targets (`controlplane.lib.rotation`), and three of the store."""

    PREPARE = "prepare"
    MAKE = "make"
    APPLY = "apply"
    VERIFY = "verify"
    ACTIVATE = "activate"
    COMMIT = "commit"
    RETIRE = "retire"
    REVERT = "revert"
    WITHDRAW = "withdraw"


@frozen
class RotationStep:
    """One step. Times are RFC 3339; `calls` counts its calls that failed or are not answered yet.

    `begun_at` without `done_at` and `failed_at`: it goes on, or its process has ended.
    """

    act: str
    system: str
    begun_at: str | None = None
    done_at: str | None = None
    failed_at: str | None = None
    calls: int = 0
    message: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "RotationStep":
        return cls(**stored)

    def as_json(self) -> dict[str, Any]:
        """As it is stored: without what is empty."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        return {name: value for name, value in members.items() if value}

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done."""
        return not (self.done_at or self.failed_at)


_MEMBERS = ("act", "system", "begun_at", "done_at", "failed_at", "calls", "message", "notes")


def steps_first(targets: Sequence[str]) -> list[RotationStep]:
    """The steps of a rotation without a failure, in their order."""
    systems = [ROTATOR, *targets]
    # What the rotator makes may cost something, so it comes when all targets are known to be there.
    prepare = [*targets, ROTATOR]
    return [
        *(RotationStep(Act.PREPARE, system) for system in prepare),
        RotationStep(Act.MAKE, ROTATOR),
        *(RotationStep(Act.APPLY, system) for system in systems),
        *(RotationStep(Act.VERIFY, system) for system in systems),
        RotationStep(Act.ACTIVATE, STORE),
        *(RotationStep(Act.COMMIT, system) for system in [*targets, ROTATOR]),
        RotationStep(Act.RETIRE, STORE),
    ]


def steps_reverting(steps: Sequence[RotationStep], *, at: str, message: str) -> list[RotationStep]:
    """The steps after a failure: those that have begun, then what reverts each system that may have changed.

    The step that goes on is the one that failed.
    """
    begun = [replace(step, failed_at=at, message=message) if step.is_open else step for step in steps if step.begun_at]
    # `make` may have made something at the rotator's system.
    changed = dict.fromkeys(step.system for step in begun if step.act in (Act.MAKE, Act.APPLY))
    return [
        *begun,
        *(RotationStep(Act.REVERT, system) for system in reversed(changed)),
        *([RotationStep(Act.WITHDRAW, STORE)] if changed else []),
    ]


def step_next(steps: Sequence[RotationStep]) -> int | None:
    """The index of the first step that is still to be done, or None."""
    return next((number for number, step in enumerate(steps) if step.is_open), None)


def notes_of(steps: Iterable[RotationStep], system: str) -> dict[str, str]:
    """What the steps of a system have noted; later notes replace earlier ones."""
    return {name: text for step in steps if step.system == system for name, text in step.notes.items()}
