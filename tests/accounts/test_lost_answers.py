"""The response to a write is lost, so botocore sends the write again: a transaction with the same idempotency token."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from botocore.exceptions import ReadTimeoutError

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import AccountClaim, ApiToken, Identity, RateLimitWindow, Session, User
from apps.accounts.services import (
    api_token_create,
    api_token_revoke,
    api_token_verify,
    identity_sign_in,
    oauth_state_add,
    oauth_state_consume,
    provider_attempt_reserve,
    session_revoke,
    session_start,
    session_verify,
    sessions_end,
    sign_in_failed_record,
    sign_out,
    user_create,
    user_disable,
)
from apps.accounts.session_store import SessionStore
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import NotAuthenticated
from controlplane.nosql.connection import shared_connection
from tests.conftest import PASSWORD

WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"}


@contextmanager
def first_answer_lost() -> Iterator[list[str]]:
    """The first write in the block reaches DynamoDB, but its answer does not come back. Yields what was sent."""
    sent: list[str] = []

    def before_send(request: Any, **_: Any) -> None:
        operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
        if operation not in WRITES:
            return
        sent.append(operation)
        if len(sent) == 1:
            requests.post(
                request.url, headers=dict(request.headers.items()), data=request.body, timeout=10
            ).raise_for_status()
            raise ReadTimeoutError(endpoint_url=request.url)

    events = shared_connection().client.meta.events
    events.register("before-send.dynamodb", before_send, unique_id="first-answer-lost")
    try:
        yield sent
    finally:
        events.unregister("before-send.dynamodb", unique_id="first-answer-lost")


def actor(user: User) -> Actor:
    return Actor("user", user.user_id, user.name)


def recorded(action: str) -> int:
    return len(list(AuditRecord.scan(AuditRecord.action == action)))


@pytest.mark.usefixtures("tables")
def test_a_person_is_made_once() -> None:
    with first_answer_lost() as sent:
        user = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=SYSTEM)
    assert len(sent) == 2
    assert [found.user_id for found in User.scan()] == [user.user_id]
    assert [found.user_id for found in AccountClaim.scan()] == [user.user_id]
    assert recorded("user.created") == 1


def test_a_person_is_disabled_once(ada: User) -> None:
    with first_answer_lost() as sent:
        user_disable(user_id=ada.user_id, actor=SYSTEM)
    assert len(sent) == 2
    ada.refresh(consistent_read=True)
    assert (ada.is_active, ada.session_epoch) == (False, 1)
    assert recorded("user.disabled") == 1


def test_a_token_is_made_once_and_works(ada: User) -> None:
    with first_answer_lost() as sent:
        _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    assert len(sent) == 2
    assert len(list(ApiToken.scan())) == 1
    assert api_token_verify(secret).kind == "token"
    assert recorded("api_token.created") == 1


def test_a_token_is_revoked_once(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with first_answer_lost() as sent:
        api_token_revoke(token=token, actor=SYSTEM)
    assert len(sent) == 2
    with pytest.raises(NotAuthenticated):
        api_token_verify(secret)
    assert recorded("api_token.revoked") == 1


def test_a_tokens_use_is_noted_without_an_error(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with first_answer_lost() as sent:
        api_token_verify(secret)
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("act", "action"),
    [
        (lambda ada: session_start(user=ada, provider="password", device=None, address=""), "user.signed_in"),
        (
            lambda ada: sign_in_failed_record(email=ada.email, provider="password", address=""),
            "user.sign_in_failed",
        ),
    ],
    ids=["sign-in", "failed sign-in"],
)
def test_a_sign_in_is_recorded_once(ada: User, act: Callable[[User], None], action: str) -> None:
    with first_answer_lost() as sent:
        act(ada)
    assert len(sent) == 2
    assert recorded(action) == 1


def test_a_session_is_started_once_and_opens(ada: User) -> None:
    with first_answer_lost() as sent:
        session = session_start(user=ada, provider="google", device=None, address="")
    assert len(sent) == 2
    assert len(list(Session.scan())) == 1
    assert session_verify(session.token, use=False).user.user_id == ada.user_id


def test_a_session_is_revoked_once(ada: User) -> None:
    session = session_start(user=ada, provider="google", device=None, address="")
    with first_answer_lost() as sent:
        session_revoke(actor=actor(ada), token_hash=session.session.token_hash)
    assert len(sent) == 2
    assert list(Session.scan()) == []
    assert recorded("session.revoked") == 1


def test_a_person_is_signed_out_everywhere_once(ada: User) -> None:
    session_start(user=ada, provider="google", device=None, address="")
    with first_answer_lost() as sent:
        sessions_end(actor=actor(ada), user_id=ada.user_id)
    assert len(sent) == 2
    ada.refresh(consistent_read=True)
    assert ada.session_epoch == 1
    assert recorded("user.signed_out_everywhere") == 1


@pytest.mark.usefixtures("tables")
def test_a_person_who_comes_by_a_provider_is_made_once(settings: Any) -> None:
    settings.ALLOWED_DOMAINS = {"example.com": "viewer"}
    identity = ProviderIdentity("github", "1001", "ada@example.com", "Ada")
    with first_answer_lost() as sent:
        user = identity_sign_in(identity)
    assert len(sent) == 2
    assert [found.user_id for found in User.scan()] == [user.user_id]
    assert [found.user_id for found in Identity.scan()] == [user.user_id]
    assert recorded("user.created") == 1


@pytest.mark.usefixtures("tables")
def test_a_state_whose_taking_was_lost_is_not_taken_twice() -> None:
    made_at = clock.epoch()
    assert oauth_state_add(scope="google", made_at=made_at, state="y")
    with first_answer_lost() as sent:
        assert not oauth_state_consume(scope="google", made_at=made_at, state="y")
    assert len(sent) == 2


def test_a_sign_out_ends_the_session_and_is_recorded_once(ada: User) -> None:
    session = SessionStore()
    session.save()
    with first_answer_lost() as sent:
        sign_out(actor=actor(ada), token=session.session_key)
    assert len(sent) == 2
    assert list(Session.scan()) == []
    assert recorded("user.signed_out") == 1


@pytest.mark.usefixtures("tables")
def test_a_session_is_made_once_and_under_the_key_in_the_cookie() -> None:
    session = SessionStore()
    session["theme"] = "dark"
    with first_answer_lost() as sent:
        session.save()
    assert len(sent) == 2
    assert len(list(Session.scan())) == 1
    assert SessionStore(session.session_key)["theme"] == "dark"


@pytest.mark.usefixtures("tables")
def test_a_session_is_saved_once_and_can_be_saved_again() -> None:
    session = SessionStore()
    session.save()
    session["theme"] = "dark"
    with first_answer_lost() as sent:
        session.save()
    assert len(sent) == 2
    session["theme"] = "light"
    session.save()
    assert dict(SessionStore(session.session_key).items()) == {"theme": "light"}


@pytest.mark.usefixtures("tables")
def test_an_attempt_whose_counting_was_lost_counts_twice_at_most() -> None:
    with first_answer_lost() as sent:
        reservation = provider_attempt_reserve(address="198.51.100.7")
    assert len(sent) == 2
    reservation.give_back()
    (row,) = RateLimitWindow.scan()
    assert row.tries == 1


@pytest.mark.usefixtures("tables")
def test_an_attempt_whose_giving_back_was_lost_never_leaves_less_than_nothing() -> None:
    reservation = provider_attempt_reserve(address="198.51.100.7")
    with first_answer_lost() as sent:
        reservation.give_back()
    assert len(sent) == 2
    (row,) = RateLimitWindow.scan()
    assert row.tries == 0
