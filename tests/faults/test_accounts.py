"""DynamoDB fails while something happens to people, their tokens and sessions."""

import pytest
from django.test import override_settings

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import ApiToken, Invitation, User
from apps.accounts.services import (
    StartedSession,
    api_token_create,
    api_token_revoke,
    api_token_verify,
    device_remove,
    identity_link,
    identity_sign_in,
    identity_unlink,
    invitation_accept,
    invitation_accept_password,
    invitation_create,
    invitation_revoke,
    session_logout,
    session_revoke,
    session_start,
    session_verify,
    sessions_end,
    sign_in_failed_record,
    sign_out,
    user_create,
    user_delete,
    user_disable,
)
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from tests.conftest import ADMIN, ada_create
from tests.faults.injection import Fault
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


def _another_admin() -> User:
    """So that the other one is not the last."""
    return user_create(email="zoe@example.com", password=PASSWORD, name="Zoe", role="admin", actor=ADMIN)


@scenario()
def disable_a_user(world: World) -> Act:
    user = _someone()
    _another_admin()
    return lambda: user_disable(user_id=user.user_id, actor=ADMIN)


@scenario("user_not_found")
def delete_a_user(world: World) -> Act:
    user = _invited()
    api_token_create(user=user, name="ci", actor=ADMIN)
    return lambda: user_delete(user_id=user.user_id, actor=ADMIN)


EVE = ProviderIdentity("google", "2002", "eve@example.com", "Eve")


def _invitation() -> Invitation:
    return invitation_create(email="eve@example.com", role="admin", actor=SYSTEM)[0]


def _invited() -> User:
    _another_admin()
    return invitation_accept(invitation=_invitation(), identity=EVE)


@scenario(repeatable=False)
def invite_an_address_again(world: World) -> Act:
    _invitation()
    return _invitation


@scenario()
def revoke_an_invitation(world: World) -> Act:
    invitation = _invitation()
    return lambda: invitation_revoke(invitation=invitation, actor=ADMIN)


@scenario("invitation_invalid")
def accept_an_invitation_with_a_password(world: World) -> Act:
    invitation = _invitation()
    return lambda: invitation_accept_password(invitation=invitation, name="Eve", password=PASSWORD)


@scenario("invitation_invalid", "identity_taken")
def accept_an_invitation_by_its_link(world: World) -> Act:
    invitation = _invitation()
    return lambda: invitation_accept(invitation=invitation, identity=EVE)


@scenario()
def accept_an_invitation_by_the_verified_address(world: World) -> Act:
    _invitation()
    return lambda: identity_sign_in(EVE)


@scenario()
def connect_an_account(world: World) -> Act:
    actor = _actor(_invited())
    return lambda: identity_link(actor=actor, identity=ProviderIdentity("github", "77", None, "eve"))


@scenario("identity_not_found")
def disconnect_an_account(world: World) -> Act:
    world.stack.enter_context(override_settings(GOOGLE_CLIENT_ID="x", GOOGLE_CLIENT_SECRET="x"))
    actor = _actor(_invited())
    identity_link(actor=actor, identity=ProviderIdentity("github", "77", None, "eve"))
    return lambda: identity_unlink(actor=actor, key="github#77")


@scenario(repeatable=False)
def create_an_api_token(world: World) -> Act:
    user = _someone()
    return lambda: api_token_create(user=user, name="ci", actor=ADMIN)


@scenario(repeatable=False)
def create_an_api_token_with_a_token(world: World) -> Act:
    user = _someone()
    actor = api_token_verify(api_token_create(user=user, name="ci", actor=ADMIN)[1])
    return lambda: api_token_create(user=user, name="child", actor=actor)


@scenario()
def revoke_an_api_token(world: World) -> Act:
    token, _ = api_token_create(user=_someone(), name="ci", actor=ADMIN)
    return lambda: api_token_revoke(token=token, actor=ADMIN)


@scenario()
def verify_an_api_token(world: World) -> Act:
    token, secret = api_token_create(user=_someone(), name="ci", actor=ADMIN)

    # Noted a moment ago. That a use may go unnoted is a case of its own.
    token.update(actions=[ApiToken.last_used_at.set(clock.timestamp(clock.now()))])
    return lambda: api_token_verify(secret)


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


@scenario(repeatable=False)
def sign_out_everywhere(world: World) -> Act:
    user = _someone()
    _session(user)
    return lambda: sessions_end(actor=_actor(user), user_id=user.user_id)


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
    return lambda: identity_sign_in(ProviderIdentity("github", "1001", "ada@example.com", "Ada"))


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
