"""States of sign-ins that are under way."""

from datetime import UTC, datetime

from apps.accounts.models import OAuthState
from apps.accounts.services import oauth_state_add, oauth_state_consume
from apps.accounts.services.oauth_states import STATE_SECONDS
from controlplane.lib import clock


def test_a_state_is_stored_as_a_hash_and_expires(tables: None) -> None:
    made_at = clock.epoch()
    assert oauth_state_add(scope="google", made_at=made_at, state="the state")
    (row,) = OAuthState.scan()
    assert row.expires_at == datetime.fromtimestamp(made_at + STATE_SECONDS, UTC)
    assert "the state" not in str(row.to_simple_dict())


def test_a_state_is_used_up_once(tables: None) -> None:
    oauth_state_add(scope="google", made_at=7, state="one")
    assert oauth_state_consume(scope="google", made_at=7, state="one")
    assert not oauth_state_consume(scope="google", made_at=7, state="one")
    assert list(OAuthState.scan()) == []


def test_a_state_belongs_to_its_scope_and_to_the_moment_it_was_made(tables: None) -> None:
    oauth_state_add(scope="google", made_at=7, state="one")
    assert not oauth_state_consume(scope="github", made_at=7, state="one")
    assert not oauth_state_consume(scope="google", made_at=8, state="one")
    assert oauth_state_consume(scope="google", made_at=7, state="one")


def test_a_state_that_exists_is_not_made_again(tables: None) -> None:
    assert oauth_state_add(scope="google", made_at=7, state="one")
    assert not oauth_state_add(scope="google", made_at=8, state="one")
    assert oauth_state_consume(scope="google", made_at=7, state="one")
