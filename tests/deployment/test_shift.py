"""A version goes live in part first, and a failure rolls it back. The emulator has no traffic."""

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.deployment.live import Live
from controlplane.deployment.shift import version_shift
from controlplane.deployment.watch import Watch
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS
from controlplane.lib import clock
from tests.deployment.conftest import FUNCTION, ring


@pytest.fixture
def live(account: Account, function: Any) -> Live:
    return Live("staging", account)


def shift(live: Live, account: Account, check: Callable[[], None] = lambda: None) -> list[str]:
    """Shift to version 2. The reports."""
    reports: list[str] = []
    watch = Watch("staging", account)
    version_shift(live, "2", watch=watch, seconds=0, check=check, report=reports.append)
    return reports


def test_a_good_version_gets_a_part_and_then_all(live: Live, account: Account, alarms: Any) -> None:
    assert shift(live, account) == [
        "10 % of all requests go to version 2, the rest to 1. Watching for 0 s.",
        "All requests go to version 2. Watching for 0 s.",
    ]
    assert live.state().before == ("1",)


def test_an_alarm_during_the_first_step_rolls_back(
    live: Live, account: Account, alarms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend = live.lend

    def lend_and_ring(*arguments: Any) -> Any:
        ring(alarms, "FunctionErrorsAlarm")
        return lend(*arguments)

    monkeypatch.setattr(live, "lend", lend_and_ring)
    active = r"Active alarms: hybrid-ci-cd-staging-function-errors\. Rolled back: All requests go to version 1\."
    with pytest.raises(InfrastructureError, match=active):
        shift(live, account)
    assert (live.state().version, live.state().candidate, live.state().before) == ("1", None, ())


def test_lambdas_count_of_a_versions_errors_rolls_back(live: Live, account: Account, alarms: Any) -> None:
    dimensions = {"FunctionName": FUNCTION, "Resource": f"{FUNCTION}:{LIVE_ALIAS}", "ExecutedVersion": "2"}
    alarms.put_metric_data(
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": "Errors",
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "Timestamp": clock.now(),
                "Value": 3,
            }
        ],
    )
    with pytest.raises(InfrastructureError, match=r"Version 2 failed 3 times; .* Rolled back: All requests go to ver"):
        shift(live, account)
    assert live.state().version == "1"


@pytest.mark.parametrize("error", [InfrastructureError("/health answers 500."), KeyboardInterrupt()])
def test_any_failure_of_the_second_step_rolls_back(
    live: Live, account: Account, alarms: Any, error: BaseException
) -> None:
    def check() -> None:
        assert live.state().version == "2"
        raise error

    with pytest.raises(InfrastructureError, match=r"Rolled back: All requests go to version 1\."):
        shift(live, account, check)
    assert (live.state().version, live.state().before) == ("1", ())


@pytest.mark.ministack("moto changes an alias whatever its revision")
def test_a_concurrent_change_of_the_alias_is_kept(live: Live, account: Account, alarms: Any) -> None:
    def check() -> None:
        live.move(live.state(), "3")
        raise InfrastructureError("/health answers 500.")

    with pytest.raises(
        InfrastructureError, match=r"The rollback failed, too: live of .* was changed by another process"
    ):
        shift(live, account, check)
    assert live.state().version == "3"


def test_an_alarm_that_was_active_before_does_not_stop_a_release(live: Live, account: Account, alarms: Any) -> None:
    ring(alarms, "FunctionErrorsAlarm")
    assert "function-errors is active already" in shift(live, account)[0]
    assert live.state().version == "2"


def test_without_its_alarms_a_version_is_not_shifted(live: Live, account: Account) -> None:
    with pytest.raises(InfrastructureError, match=r"These alarms do not exist: .* First: manage.py infrastructure"):
        shift(live, account)
    assert live.state().version == "1"
