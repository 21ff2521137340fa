"""Processes that Lambda keeps ready follow the version that gets the requests."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from controlplane.deployment.live import Live
from controlplane.deployment.provisioned import Provisioned
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from tests.deployment.conftest import FUNCTION
from tests.deployment.test_release_command import release

pytestmark = pytest.mark.ministack("moto's Lambda has no provisioned concurrency")


def ready(function: Any) -> dict[str, int]:
    """The versions with ready processes, and how many."""
    found = {}
    for version in ("1", "2", "3"):
        try:
            config = function.get_provisioned_concurrency_config(FunctionName=FUNCTION, Qualifier=version)
        except ClientError:
            continue
        found[version] = config["RequestedProvisionedConcurrentExecutions"]
    return found


def test_a_version_has_its_ready_processes_before_it_gets_requests_and_the_old_one_none_after(
    account: Account, function: Any
) -> None:
    live = Live("staging", account)
    Provisioned("staging", account, 2).follow()
    assert ready(function) == {"1": 2}
    provisioned = Provisioned("staging", account, 3)
    provisioned.prepare("2")
    assert ready(function) == {"1": 2, "2": 3}
    live.move(live.lend(live.state(), "2", 10), "2")
    provisioned.follow()
    assert ready(function) == {"2": 3}


def test_a_version_that_does_not_go_live_keeps_no_ready_processes(account: Account, function: Any) -> None:
    provisioned = Provisioned("staging", account, 2)
    provisioned.prepare("2")
    provisioned.follow()
    assert ready(function) == {"1": 2}


def test_a_rollback_takes_the_ready_processes_along(account: Account, function: Any) -> None:
    live = Live("staging", account)
    live.move(live.state(), "2")
    Provisioned("staging", account, 2).follow()
    assert release("rollback") == "All requests go to version 1.\n"
    assert ready(function) == {"1": 2}


def test_a_deployment_with_none_ends_those_that_there_are(account: Account, function: Any) -> None:
    Provisioned("staging", account, 2).follow()
    Provisioned("staging", account, 0).follow()
    assert ready(function) == {}


def test_processes_that_lambda_cannot_make_stop_the_release_and_its_reason_is_told(
    account: Account, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioned = Provisioned("staging", account, 2)

    def failed(**_: Any) -> dict[str, str]:
        return {"Status": "FAILED", "StatusReason": "The account has no concurrency left."}

    monkeypatch.setattr(account.client("lambda"), "get_provisioned_concurrency_config", failed)
    with pytest.raises(InfrastructureError, match=r"no concurrency left\. Lower PROVISIONED_CONCURRENCY"):
        provisioned.prepare("2")
