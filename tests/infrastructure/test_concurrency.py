"""What a stage reserves in accounts of all sizes. The answers are Lambda's own for such accounts."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from controlplane.infrastructure.concurrency import Concurrency, concurrency_possible
from controlplane.infrastructure.stages import STAGES


class Lambda:
    """The two answers of Lambda that count."""

    def __init__(self, account: int, unreserved: int, own: int | None = None) -> None:
        self._limit = {"ConcurrentExecutions": account, "UnreservedConcurrentExecutions": unreserved}
        self._own = own

    def get_account_settings(self) -> dict[str, Any]:
        return {"AccountLimit": self._limit}

    def get_function_concurrency(self, FunctionName: str) -> dict[str, int]:  # noqa: N803 — boto3's name
        assert FunctionName == "hybrid-ci-cd-production"
        if self._own is None:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetFunctionConcurrency")
        return {"ReservedConcurrentExecutions": self._own} if self._own else {}


@pytest.mark.parametrize(
    ("client", "reserved"),
    [
        (Lambda(1000, 1000), 100),
        (Lambda(1000, 900, own=100), 100),
        # Others have reserved the rest, and what is ours stays ours.
        (Lambda(1000, 100, own=100), 100),
        (Lambda(200, 200, own=0), 100),
        # A part is better than nothing, but a reservation is a limit, too.
        (Lambda(160, 160), 60),
        (Lambda(130, 130), None),
        # A new account.
        (Lambda(10, 10), None),
        (Lambda(1000, 0), None),
    ],
)
def test_a_stage_reserves_what_the_account_can_spare(client: Lambda, reserved: int | None) -> None:
    assert concurrency_possible(STAGES["production"], client).reserved == reserved


def test_a_new_account_is_told_what_it_lacks_and_where_to_ask_for_it() -> None:
    note = concurrency_possible(STAGES["production"], Lambda(10, 10)).note
    assert note == (
        "production should reserve a concurrency of 100, but the account has 10 in this region, and 0 of it can be "
        "reserved: none is reserved. "
        "Ask for more under Service Quotas, Lambda, Concurrent executions; then deploy again."
    )


def test_staging_reserves_nothing_and_its_alarm_knows_the_accounts_limit() -> None:
    assert concurrency_possible(STAGES["staging"], Lambda(10, 10)) == Concurrency(reserved=None, account=10)
