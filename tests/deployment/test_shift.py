"""A version goes live a part first, and back by itself when something is wrong. The emulator knows no traffic."""

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
    """To version 2; what is told."""
    told: list[str] = []
    watch = Watch("staging", account)
    version_shift(live, "2", watch=watch, seconds=0, check=check, tell=told.append)
    return told


def test_a_good_version_gets_a_part_and_then_all(live: Live, account: Account, alarms: Any) -> None:
    assert shift(live, account) == [
        "10 % of all requests go to version 2, the rest to 1. Watching for 0 s.",
        "All requests go to version 2. Watching for 0 s.",
    ]
    assert live.state().before == ("1",)


def test_an_alarm_at_a_part_of_the_traffic_takes_it_away(
    live: Live, account: Account, alarms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend = live.lend

    def lend_and_ring(*arguments: Any) -> Any:
        ring(alarms, "FunctionErrorsAlarm")
        return lend(*arguments)

    monkeypatch.setattr(live, "lend", lend_and_ring)
    went_off = r"Went off: hybrid-ci-cd-staging-function-errors\. Went back: All requests go to version 1\."
    with pytest.raises(InfrastructureError, match=went_off):
        shift(live, account)
    assert (live.state().version, live.state().candidate, live.state().before) == ("1", None, ())


def test_a_version_that_breaks_off_is_noticed_by_its_own_count(live: Live, account: Account, alarms: Any) -> None:
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
    with pytest.raises(InfrastructureError, match=r"Version 2 broke off 3 times; .* Went back: All requests go to ver"):
        shift(live, account)
    assert live.state().version == "1"


@pytest.mark.parametrize("error", [InfrastructureError("/health answers 500."), KeyboardInterrupt()])
def test_whatever_fails_when_all_go_there_it_goes_back(
    live: Live, account: Account, alarms: Any, error: BaseException
) -> None:
    def check() -> None:
        assert live.state().version == "2"
        raise error

    with pytest.raises(InfrastructureError, match=r"Went back: All requests go to version 1\."):
        shift(live, account, check)
    assert (live.state().version, live.state().before) == ("1", ())


def test_what_somebody_else_decided_meanwhile_stands(live: Live, account: Account, alarms: Any) -> None:
    def check() -> None:
        live.move(live.state(), "3")
        raise InfrastructureError("/health answers 500.")

    with pytest.raises(InfrastructureError, match="Going back failed, too: Somebody else has moved live"):
        shift(live, account, check)
    assert live.state().version == "3"


def test_an_alarm_that_rings_before_does_not_hold_a_remedy_up(live: Live, account: Account, alarms: Any) -> None:
    ring(alarms, "FunctionErrorsAlarm")
    assert "function-errors rings already" in shift(live, account)[0]
    assert live.state().version == "2"


def test_without_its_alarms_nothing_is_shifted(live: Live, account: Account) -> None:
    with pytest.raises(InfrastructureError, match=r"These alarms are not there: .* First: manage.py infrastructure"):
        shift(live, account)
    assert live.state().version == "1"
