"""The stages on AWS and all in which they differ."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """Provisioned units of each table and index: at least `units` of reading and of writing, at most `most`.

    Scaling aims at `target_percent` of what is provisioned being used.
    """

    units: int
    most: int
    target_percent: int


@dataclass(frozen=True)
class Stage:
    """`capacity` None means on demand. `reserved_concurrency` None: what the account has left.

    `zappa_settings.json` says the function's memory and concurrency once more, and a test compares.
    `guarded`: it is deleted only by those who write its name out.
    """

    name: str
    memory_mb: int
    reserved_concurrency: int | None
    log_days: int
    capacity: Capacity | None
    guarded: bool


STAGES = {
    stage.name: stage
    for stage in (
        Stage(name="staging", memory_mb=512, reserved_concurrency=None, log_days=7, capacity=None, guarded=False),
        Stage(
            name="production",
            memory_mb=1024,
            reserved_concurrency=100,
            log_days=30,
            capacity=Capacity(units=20, most=400, target_percent=70),
            guarded=True,
        ),
    )
}
