"""API tokens: what is stored of them, what they may do, and how soon they stop."""

import re
from datetime import timedelta

import pytest

from apps.accounts.models import ApiToken, User
from apps.accounts.policies import ROLES, Permission
from apps.accounts.selectors import api_token_list
from apps.accounts.services import api_token_create, api_token_revoke, api_token_verify, user_disable
from apps.accounts.services.api_tokens import CACHE_SECONDS
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import InvalidInput, NotAuthenticated
from tests.clients import Client
from tests.metering import dynamodb_calls


def refusal(secret: str) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        api_token_verify(secret)
    return refused.value.code


def test_a_token_is_long_random_and_has_our_prefix(ada: User) -> None:
    secrets = {api_token_create(user=ada, name="ci", actor=SYSTEM)[1] for _ in range(3)}
    assert len(secrets) == 3
    assert all(re.fullmatch(r"hcp_[A-Za-z0-9_-]{43}", secret) for secret in secrets)


def test_neither_the_table_nor_the_trail_has_the_token(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    rows = [row.to_simple_dict() for row in ApiToken.scan()]
    trail = [row.to_simple_dict() for row in audit_list(day=clock.timestamp(clock.now())[:10]).records]
    assert len(rows) == 1
    assert secret not in str(rows)
    assert secret not in str(trail)
    assert trail[0]["action"] == "api_token.created"


def test_a_token_acts_as_a_program_of_its_owner_with_the_owners_role(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    actor = api_token_verify(secret)
    assert (actor.kind, actor.id, actor.name) == ("token", token.token_id, "ci (ada@example.com)")
    assert actor.permissions == ROLES["operator"]


def test_a_token_may_be_given_less_than_its_owner_has(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", permissions=["jobs.read"], actor=SYSTEM)
    assert api_token_verify(secret).permissions == {Permission.JOBS_READ}


def test_a_token_for_nothing_may_do_nothing(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", permissions=[], actor=SYSTEM)
    assert api_token_verify(secret).permissions == frozenset()


@pytest.mark.parametrize("permission", ["accounts.manage", "no.such", ""])
def test_a_token_cannot_be_given_more_than_its_owner_has(ada: User, permission: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        api_token_create(user=ada, name="ci", permissions=["jobs.read", permission], actor=SYSTEM)
    assert refused.value.errors[0]["field"] == "permissions"
    assert list(ApiToken.scan()) == []


def test_a_token_loses_what_its_owner_loses(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", permissions=["jobs.read", "jobs.create"], actor=SYSTEM)
    ada.update(actions=[User.role.set("viewer")])
    assert api_token_verify(secret).permissions == {Permission.JOBS_READ}


@pytest.mark.parametrize(
    "secret",
    ["", "hcp_", "hcp_" + "x" * 43, "hcp_" + "x" * 44, "hcp_" + "ü" * 43, "x" * 10_000, "hcp_\ud800" + "x" * 42],
)
def test_what_is_no_token_of_ours_is_refused(ada: User, secret: str) -> None:
    assert refusal(secret) == "token_invalid"


def test_a_token_that_differs_in_one_character_is_refused(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    other = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert refusal(other) == "token_invalid"


def test_an_expired_token_is_refused_even_while_this_process_remembers_it(ada: User) -> None:
    expires = clock.now() + timedelta(seconds=10)
    _, secret = api_token_create(user=ada, name="ci", expires_at=expires, actor=SYSTEM)
    api_token_verify(secret)
    with clock.shifted(timedelta(seconds=11)):
        assert refusal(secret) == "token_expired"
        assert len(list(ApiToken.scan())) == 1


def test_a_token_cannot_expire_in_the_past(ada: User) -> None:
    with pytest.raises(InvalidInput) as refused:
        api_token_create(user=ada, name="ci", expires_at=clock.now(), actor=SYSTEM)
    assert refused.value.errors[0]["field"] == "expires_at"


def test_a_revoked_token_is_out_at_once_where_it_was_revoked(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    api_token_revoke(token=token, actor=SYSTEM)
    assert refusal(secret) == "token_invalid"
    assert audit_list(day=clock.timestamp(clock.now())[:10]).records[0].action == "api_token.revoked"


def test_a_token_revoked_elsewhere_is_out_within_30_seconds(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    token.delete()
    assert CACHE_SECONDS <= 30
    with clock.shifted(timedelta(seconds=CACHE_SECONDS)):
        assert refusal(secret) == "token_invalid"


def test_a_revoked_token_is_refused_though_the_clock_was_set_back(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with clock.shifted(timedelta(hours=1)):
        api_token_verify(secret)
    token.delete()
    with pytest.raises(NotAuthenticated):
        api_token_verify(secret)


def test_revoking_twice_is_recorded_once(ada: User) -> None:
    token, _ = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_revoke(token=token, actor=SYSTEM)
    api_token_revoke(token=token, actor=SYSTEM)
    records = audit_list(day=clock.timestamp(clock.now())[:10]).records
    assert [record.action for record in records].count("api_token.revoked") == 1


def test_a_disabled_owners_token_is_out_within_30_seconds(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    user_disable(user_id=ada.user_id, actor=SYSTEM)
    with clock.shifted(timedelta(seconds=CACHE_SECONDS)):
        assert refusal(secret) == "account_disabled"


def test_a_token_whose_owner_is_gone_is_refused(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    ada.delete()
    assert refusal(secret) == "token_invalid"


def test_a_token_costs_no_call_while_it_is_remembered(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with dynamodb_calls() as first:
        api_token_verify(secret)
    with dynamodb_calls() as second:
        api_token_verify(secret)
    with clock.shifted(timedelta(seconds=CACHE_SECONDS)), dynamodb_calls() as later:
        api_token_verify(secret)
    assert first.operations == ["GetItem", "GetItem", "UpdateItem"]
    assert second.operations == []
    assert later.operations == ["GetItem", "GetItem"]


def test_its_last_use_is_noted_once_an_hour(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    first = ApiToken.find(token.token_hash).last_used_at
    with clock.shifted(timedelta(minutes=59)):
        api_token_verify(secret)
        assert ApiToken.find(token.token_hash).last_used_at == first
    with clock.shifted(timedelta(minutes=62)):
        api_token_verify(secret)
        assert ApiToken.find(token.token_hash).last_used_at > first


def test_noting_the_use_of_a_token_does_not_bring_it_back(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    with clock.shifted(timedelta(hours=2)):
        token.delete()
        assert refusal(secret) == "token_invalid"
    assert list(ApiToken.scan()) == []


def test_a_persons_tokens_are_listed_newest_first(ada: User) -> None:
    for name in ("first", "second"):
        api_token_create(user=ada, name=name, permissions=["jobs.read"], actor=SYSTEM)
    listed = api_token_list(ada.user_id)
    assert [token.name for token in listed] == ["second", "first"]
    assert listed[0].permissions == ["jobs.read"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "not_authenticated"),
        ("Basic YTpi", "not_authenticated"),
        ("Bearer", "token_invalid"),
        ("Bearer hcp_wrong", "token_invalid"),
        ("Bearer hcp_" + "x" * 43, "token_invalid"),
    ],
)
def test_the_api_answers_401_to_who_shows_no_valid_token(outsider: Client, header: str | None, code: str) -> None:
    answer = outsider.get("/jobs", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.json()["code"] == code
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_api_answers_who_shows_a_token(operator: Client) -> None:
    assert operator.get("/jobs").status_code == 200


def test_a_wrong_token_beside_a_session_is_still_refused(operator: Client) -> None:
    operator.session.headers["Authorization"] = f"Bearer {operator.token}x"
    assert operator.get("/jobs").status_code == 401
