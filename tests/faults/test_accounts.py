"""DynamoDB fails while something happens to people, their tokens and sessions."""

import pytest

from apps.accounts.models import ApiToken, User
from apps.accounts.services import (
    api_token_create,
    api_token_revoke,
    api_token_verify,
    sign_in_failed_record,
    user_create,
    user_disable,
)
from apps.accounts.services.api_tokens import _verified
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import ADMIN, Act, World

PASSWORD = "a long enough password"


scenario = Scenarios()


# --- accounts -------------------------------------------------------------------------------------------------------


def _someone() -> User:
    return user_create(email="ada@example.com", password=PASSWORD, name="Ada", role="admin", actor=SYSTEM)


@scenario("email_taken")
def create_a_user(world: World) -> Act:
    return _someone


@scenario()
def disable_a_user(world: World) -> Act:
    user = _someone()
    return lambda: user_disable(user_id=user.user_id, actor=ADMIN)


@scenario(repeatable=False)
def create_an_api_token(world: World) -> Act:
    user = _someone()
    return lambda: api_token_create(user=user, name="ci", actor=ADMIN)


@scenario()
def revoke_an_api_token(world: World) -> Act:
    token, _ = api_token_create(user=_someone(), name="ci", actor=ADMIN)
    return lambda: api_token_revoke(token=token, actor=ADMIN)


@scenario()
def verify_an_api_token(world: World) -> Act:
    token, secret = api_token_create(user=_someone(), name="ci", actor=ADMIN)

    def verify() -> None:
        # As a process does that has not seen the token yet.
        _verified.drop(token.token_hash)
        api_token_verify(secret)

    # Noted a moment ago. That a use may go unnoted is a case of its own.
    token.update(actions=[ApiToken.last_used_at.set(clock.timestamp(clock.now()))])
    return verify


@scenario(repeatable=False)
def record_a_failed_sign_in(world: World) -> Act:
    return lambda: sign_in_failed_record(email="eve@example.com", provider="password", address="127.0.0.1")


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
