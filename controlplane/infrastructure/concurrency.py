"""What a stage may reserve of the account's concurrency. AWS is asked first: a new account has 10 and reserves none."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.names import function_name
from controlplane.infrastructure.stages import Stage

# Lambda keeps so much of the account's concurrency for functions without a reservation; a smaller limit is kept whole.
_KEPT = 100
# A reservation is a limit, too. Below this share of what is wanted, it would do more harm than good.
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Concurrency:
    """`reserved` is what the stage can reserve, None for nothing; `account` is the account's limit in this region.

    `note` says in a sentence for the person who deploys why less than the stage's setting is reserved.
    """

    reserved: int | None
    account: int
    note: str | None = None


def concurrency_possible(stage: Stage, client: Any) -> Concurrency:
    """Ask Lambda (boto3's `client`) for the account's limit, and what the function has reserved already."""
    limit = client.get_account_settings()["AccountLimit"]
    account: int = limit["ConcurrentExecutions"]
    wanted = stage.reserved_concurrency
    if wanted is None:
        return Concurrency(None, account)
    free = limit["UnreservedConcurrentExecutions"] + _reserved(stage, client) - min(_KEPT, account)
    if free >= wanted:
        return Concurrency(wanted, account)
    reserved = free if free >= wanted * _LEAST_SHARE else None
    part = f"only {reserved} are" if reserved else "none is"
    return Concurrency(
        reserved,
        account,
        f"{stage.name} should reserve a concurrency of {wanted}, but the account has {account} in this region, and "
        f"{max(free, 0)} of it can be reserved: {part} reserved. Ask for more under Service Quotas, Lambda, Concurrent "
        "executions; then deploy again.",
    )


def _reserved(stage: Stage, client: Any) -> int:
    """What the function has reserved: 0 when it does not exist yet."""
    try:
        found = client.get_function_concurrency(FunctionName=function_name(stage.name))
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return 0
        raise
    return int(found.get("ReservedConcurrentExecutions", 0))
