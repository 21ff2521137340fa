"""The records of secrets."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.secrets.models.rotations import (
        AFTER_ROTATIONS,
        ALARM,
        OPEN,
        PLAN,
        PLANNED,
        RINGING,
        Rotation,
        RotationAlarm,
        RotationPlan,
    )
    from apps.secrets.models.secrets import SPACE, Secret
    from apps.secrets.models.versions import SecretVersion

__all__ = [
    "AFTER_ROTATIONS",
    "ALARM",
    "OPEN",
    "PLAN",
    "PLANNED",
    "RINGING",
    "SPACE",
    "Rotation",
    "RotationAlarm",
    "RotationPlan",
    "Secret",
    "SecretVersion",
]

# Django imports this package at each cold start, and few of these use a secret.
__getattr__ = lazy_names(
    __name__,
    {
        "rotations": [
            "AFTER_ROTATIONS",
            "ALARM",
            "OPEN",
            "PLAN",
            "PLANNED",
            "RINGING",
            "Rotation",
            "RotationAlarm",
            "RotationPlan",
        ],
        "secrets": ["SPACE", "Secret"],
        "versions": ["SecretVersion"],
    },
)
