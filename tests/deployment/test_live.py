"""The alias `live`: moving it, rolling back, and concurrent changes."""

from typing import Any

import pytest

from controlplane.deployment.live import Live, MovedByOthers
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS
from tests.deployment.conftest import FUNCTION, settings_change


@pytest.fixture
def live(account: Account, function: Any) -> Live:
    return Live("staging", account)


def test_a_part_of_the_requests_goes_to_a_version_and_the_rest_stays(live: Live, function: Any) -> None:
    state = live.lend(live.state(), "2", 10)
    alias = function.get_alias(FunctionName=FUNCTION, Name=LIVE_ALIAS)
    assert (alias["FunctionVersion"], alias["RoutingConfig"]) == ("1", {"AdditionalVersionWeights": {"2": 0.1}})
    assert [state.share(number) for number in ("1", "2", "3")] == [90, 10, 0]
    assert str(live.state()) == "10 % of all requests go to version 2, the rest to 1."


@pytest.mark.ministack("moto never removes the weights of an alias")
def test_moving_removes_the_weights_and_records_the_earlier_version(live: Live, function: Any) -> None:
    live.move(live.lend(live.state(), "2", 10), "2")
    alias = function.get_alias(FunctionName=FUNCTION, Name=LIVE_ALIAS)
    assert (alias["FunctionVersion"], alias["Description"]) == ("2", "Live before: 1")
    assert "RoutingConfig" not in alias


def test_each_rollback_goes_one_version_back_and_never_forward(live: Live) -> None:
    live.move(live.move(live.state(), "2"), "3")
    assert live.go_back().version == "2"
    assert live.go_back().version == "1"
    with pytest.raises(InfrastructureError, match="No version is known that was live before 1"):
        live.go_back()


def test_a_rollback_of_a_partial_release_ends_it(live: Live) -> None:
    live.lend(live.move(live.state(), "2"), "3", 25)
    state = live.go_back()
    assert (state.version, state.candidate, state.before) == ("2", None, ("1",))


@pytest.mark.ministack("moto changes an alias whatever its revision")
def test_a_change_of_an_outdated_state_is_refused(live: Live) -> None:
    old = live.state()
    live.move(old, "2")
    with pytest.raises(MovedByOthers, match=r"live of .* was changed by another process"):
        live.move(old, "3")
    assert live.state().version == "2"


def test_the_same_code_and_settings_publish_no_new_version(live: Live, function: Any) -> None:
    assert live.publish("0.1.3 abc") == "3"
    settings_change(function, "4")
    assert live.publish("0.1.4 abc") == "4"
    assert [(version.number, version.description) for version in live.versions()][:2] == [
        ("4", "0.1.4 abc"),
        ("3", "0.1.3 abc"),
    ]


def test_old_versions_are_deleted_except_the_live_and_the_earlier_ones(live: Live, function: Any) -> None:
    for number in range(4, 15):
        settings_change(function, str(number))
        live.publish(str(number))
    live.move(live.lend(live.state(), "3", 10), "3")
    assert live.prune() == ["4", "2"]
    assert [version.number for version in live.versions()] == [*map(str, range(14, 4, -1)), "3", "1"]
    assert live.go_back().version == "1"


def test_a_function_without_the_alias_is_not_deployed(account: Account) -> None:
    with pytest.raises(InfrastructureError, match="is not deployed, or its first deployment failed halfway"):
        Live("staging", account).state()
