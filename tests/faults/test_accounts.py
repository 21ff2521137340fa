"""DynamoDB fails while something happens to people, their tokens and sessions."""

import pytest
from django.test import override_settings

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import ApiToken, User
from apps.accounts.services import (
    StartedSession,
    api_token_create,
    api_token_revoke,
    api_token_verify,
    device_remove,
    identity_sign_in,
    session_logout,
    session_revoke,
    session_start,
    session_verify,
    sessions_end,
    sign_in_failed_record,
    sign_out,
    user_disable,
)
from apps.accounts.services.api_tokens import _verified
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotAuthenticated
from tests.conftest import ADMIN, ada_create
from tests.faults.injection import Fault, fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World

PASSWORD = "a long enough password"


scenario = Scenarios()


# --- accounts -------------------------------------------------------------------------------------------------------


def _someone() -> User:
    return ada_create("admin")


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


# --- sessions -------------------------------------------------------------------------------------------------------


def _session(user: User) -> StartedSession:
    return session_start(user=user, provider="google", device="Firefox on Linux", address="198.51.100.7")


def _actor(user: User) -> Actor:
    return Actor("user", user.user_id, user.name)


@scenario(repeatable=False)
def start_a_session(world: World) -> Act:
    user = _someone()
    return lambda: _session(user)


@scenario()
def sign_out_of_a_session(world: World) -> Act:
    user = _someone()
    token = _session(user).token
    return lambda: sign_out(actor=_actor(user), token=token)


@scenario()
def log_out_of_a_session_by_its_token(world: World) -> Act:
    token = _session(_someone()).token
    return lambda: session_logout(token)


@scenario("session_not_found")
def end_a_session_on_another_device(world: World) -> Act:
    user = _someone()
    device_id = _session(user).session.device_id
    return lambda: device_remove(actor=_actor(user), device_id=device_id)


@scenario("session_not_found")
def revoke_a_session(world: World) -> Act:
    token_hash = _session(_someone()).session.token_hash
    return lambda: session_revoke(actor=ADMIN, token_hash=token_hash)


@scenario()
def verify_a_session(world: World) -> Act:
    token = _session(_someone()).token
    return lambda: session_verify(token, use=True)


@scenario()
def come_in_by_a_provider_for_the_first_time(world: World) -> Act:
    world.stack.enter_context(override_settings(ALLOWED_DOMAINS={"example.com": "viewer"}))
    return lambda: identity_sign_in(ProviderIdentity("google", "1001", "ada@example.com", "Ada"))


@pytest.mark.parametrize("call", range(1, 4))
def test_signing_out_everywhere_works_although_the_rows_cannot_be_deleted(tables: None, call: int) -> None:
    user = _someone()
    token = _session(user).token
    with fault(Fault.ERROR, call=call, lasting=True) as injected:
        sessions_end(actor=_actor(user), user_id=user.user_id)
    assert injected.hit
    with pytest.raises(NotAuthenticated):
        session_verify(token, use=False)


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
