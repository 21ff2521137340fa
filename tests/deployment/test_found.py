"""A deployment that stopped half way: what is there, and the command to type."""

from typing import Any

import pytest

from controlplane.deployment.found import stage_found
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS, function_name
from tests.deployment.conftest import FUNCTION


def test_nothing_names_the_first_deployment(account: Account) -> None:
    found = stage_found("staging", account)
    assert (found.made, found.complete) == ("nothing", False)
    with pytest.raises(InfrastructureError, match=r"is not deployed in eu-central-1\. Type: zappa deploy staging$"):
        found.require()


@pytest.mark.parametrize("alias", [True, False])
def test_a_half_way_deployment_says_what_was_made_and_how_to_take_it_back(
    account: Account, function: Any, alias: bool
) -> None:
    if not alias:
        function.delete_alias(FunctionName=FUNCTION, Name=LIVE_ALIAS)
    made = f"the function {FUNCTION}" + (", its alias live" if alias else "")
    with pytest.raises(
        InfrastructureError,
        match=rf"stopped half way\. There is {made}, and no more\. Type: zappa undeploy staging, then: zappa deploy",
    ):
        stage_found("staging", account).require()


def test_a_stage_with_function_alias_and_api_is_complete(account: Account, function: Any) -> None:
    account.client("apigatewayv2").create_api(Name=function_name("staging"), ProtocolType="HTTP")
    found = stage_found("staging", account)
    found.require()
    assert found.address.endswith("/staging")
