"""The stages on AWS, and all their differences."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """Provisioned units of each table and index: from `units` to `most` for reads and for writes.

    Auto-scaling keeps the used share of the provisioned units near `target_percent`.
    """

    units: int
    most: int
    target_percent: int


@dataclass(frozen=True)
class Stage:
    """`capacity` None means on demand; `reserved_concurrency` None means the account's unreserved concurrency.

    `zappa_settings.json` repeats the function's memory and concurrency, and a test compares both. A `guarded` stage is
    only deleted when its name is typed in full.
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
