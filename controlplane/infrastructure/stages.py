"""The stages on AWS, and all their differences."""

from dataclasses import dataclass

# How the tables of a stage are billed: the setting DYNAMODB_BILLING.
ON_DEMAND, PROVISIONED = "on-demand", "provisioned"
# The tables that a provisioned stage provisions, with their indexes. All others are always on demand.
PROVISIONED_TABLES = frozenset({"agents", "jobs", "sessions"})


@dataclass(frozen=True)
class Capacity:
    """Provisioned units of a table and of each of its indexes: from `units` to `most` for reads and for writes.

    Auto-scaling keeps the used share of the provisioned units near `target_percent`.
    """

    units: int
    most: int
    target_percent: int


CAPACITY = Capacity(units=20, most=400, target_percent=70)


@dataclass(frozen=True)
class Stage:
    """`billing` is what applies unless DYNAMODB_BILLING is set.

    `reserved_concurrency` None means the account's unreserved concurrency; `account_concurrency` is AWS's usual quota.
    `zappa_settings.json` repeats the function's memory and concurrency, and a test compares both. The gateway answers
    429 above `requests_per_second`, and lets `burst` requests pass at once. A `guarded` stage is only deleted when its
    name is typed in full.
    """

    name: str
    memory_mb: int
    reserved_concurrency: int | None
    log_days: int
    billing: str
    requests_per_second: int
    burst: int
    guarded: bool
    account_concurrency: int = 1000

    def capacity(self, table: str) -> Capacity | None:
        """The capacity of the table and its indexes, or None when it is on demand."""
        return CAPACITY if self.billing == PROVISIONED and table in PROVISIONED_TABLES else None


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="staging",
            memory_mb=512,
            reserved_concurrency=None,
            log_days=7,
            billing=ON_DEMAND,
            requests_per_second=200,
            burst=400,
            guarded=False,
        ),
        Stage(
            name="production",
            memory_mb=1024,
            reserved_concurrency=100,
            log_days=30,
            billing=PROVISIONED,
            requests_per_second=2000,
            burst=2000,
            guarded=True,
        ),
    )
}
