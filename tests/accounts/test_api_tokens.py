"""API tokens: what is stored of them, what they may do, and how soon they stop."""

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.models import ApiToken, User, secret_hash
from apps.accounts.policies import ROLES, Permission
from apps.accounts.selectors import api_token_list, api_tokens_stored
from apps.accounts.services import api_token_create, api_token_revoke, api_token_verify, user_create, user_disable
from apps.accounts.services import api_tokens as api_tokens_module
from apps.accounts.services.api_tokens import MAX_TOKENS
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotAuthenticated, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import shared_connection
from tests.clients import Client
from tests.conftest import ADMIN, PASSWORD
from tests.metering import dynamodb_calls


def refusal(secret: str) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        api_token_verify(secret)
    return refused.value.code


def test_a_token_is_long_random_and_has_our_prefix(ada: User) -> None:
    made = {api_token_create(user=ada, name="ci", actor=SYSTEM)[1] for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(rf"hcp_{ada.user_id}_[A-Za-z0-9_-]{{43}}", secret) for secret in made)


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
    [
        "",
        "hcp_",
        "hcp_" + "x" * 43,
        "hcp_" + "x" * 44,
        "hcp_" + "ü" * 43,
        "x" * 10_000,
        "hcp_\ud800" + "x" * 42,
        f"hcp_{'0' * 26}_{'x' * 43}",
        f"hcp_{'9' * 26}_{'x' * 43}",
    ],
)
def test_what_is_no_token_of_ours_is_refused(ada: User, secret: str) -> None:
    assert refusal(secret) == "token_invalid"


def test_a_token_that_differs_in_one_character_is_refused(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    other = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert refusal(other) == "token_invalid"


def test_an_expired_token_is_refused_though_its_row_is_there(ada: User) -> None:
    expires = clock.now() + timedelta(seconds=10)
    _, secret = api_token_create(user=ada, name="ci", expires_at=expires, actor=SYSTEM)
    api_token_verify(secret)
    with clock.shifted(timedelta(seconds=10)):
        assert refusal(secret) == "token_expired"
        assert len(list(ApiToken.scan())) == 1


def test_a_token_cannot_expire_in_the_past(ada: User) -> None:
    with pytest.raises(InvalidInput) as refused:
        api_token_create(user=ada, name="ci", expires_at=clock.now(), actor=SYSTEM)
    assert refused.value.errors[0]["field"] == "expires_at"


def test_a_revoked_token_is_refused_at_once_everywhere(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    # As another process does: this one learns of it only from the table.
    ApiToken(token.token_hash).delete()
    assert refusal(secret) == "token_invalid"


def test_revoking_is_recorded_with_whose_token_it_was(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_revoke(token=token, actor=ADMIN)
    assert refusal(secret) == "token_invalid"
    (record,) = AuditRecord.scan(AuditRecord.action == "api_token.revoked")
    assert (record.actor_id, record.target) == (ADMIN.id, f"api_token:{token.token_id}")
    assert record.detail == {"name": "ci", "owner": ada.user_id}


def test_only_the_owner_and_managers_of_accounts_revoke_a_token(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    stranger = Actor("user", new_id(), "Eve", frozenset({Permission.TOKENS_MANAGE}))
    with pytest.raises(Forbidden):
        api_token_revoke(token=token, actor=stranger)
    assert api_token_verify(secret).kind == "token"
    api_token_revoke(token=token, actor=replace(stranger, id=ada.user_id))
    assert refusal(secret) == "token_invalid"


def test_revoking_twice_is_recorded_once(ada: User) -> None:
    token, _ = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_revoke(token=token, actor=SYSTEM)
    api_token_revoke(token=token, actor=SYSTEM)
    records = audit_list(day=clock.timestamp(clock.now())[:10]).records
    assert [record.action for record in records].count("api_token.revoked") == 1


def test_a_disabled_owners_token_is_refused_at_once(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    user_disable(user_id=ada.user_id, actor=SYSTEM)
    assert refusal(secret) == "account_disabled"


def test_a_changed_role_counts_at_once(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    ada.update(actions=[User.role.set("viewer")])
    assert api_token_verify(secret).permissions == ROLES["viewer"]


def test_a_token_whose_owner_is_gone_is_refused(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    ada.delete()
    assert refusal(secret) == "token_invalid"


def test_a_token_costs_one_call_for_every_request_valid_or_not(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with dynamodb_calls() as first:
        api_token_verify(secret)
    with dynamodb_calls() as second:
        api_token_verify(secret)
    with dynamodb_calls() as forged:
        refusal(secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    with dynamodb_calls() as malformed:
        refusal(secret + "x")
    assert first.operations == ["BatchGetItem", "UpdateItem"]
    assert second.operations == forged.operations == ["BatchGetItem"]
    assert malformed.operations == []


def test_token_and_owner_are_read_consistently(ada: User) -> None:
    _, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with requests_seen() as seen:
        api_token_verify(secret)
    ((operation, asked), *_) = seen
    assert operation == "BatchGetItem"
    assert [table["ConsistentRead"] for table in asked["RequestItems"].values()] == [True, True]


def old_token(owner: User) -> str:
    """A token as earlier versions made them, whose text does not name its owner."""
    token, _ = api_token_create(user=owner, name="old", actor=SYSTEM)
    secret = "hcp_" + secrets.token_urlsafe(32)
    row = {**token.attribute_values, "token_hash": secret_hash(secret)}
    token.delete()
    ApiToken(**row).save()
    return secret


def test_a_token_of_an_earlier_version_stays_valid_with_two_calls(ada: User) -> None:
    secret = old_token(ada)
    with dynamodb_calls() as metering:
        assert api_token_verify(secret).person_id == ada.user_id
    assert metering.operations == ["GetItem", "GetItem", "UpdateItem"]
    ada.update(actions=[User.is_active.set(False)])
    assert refusal(secret) == "account_disabled"
    ada.delete()
    assert refusal(secret) == "token_invalid"


def test_a_token_that_names_another_owner_than_its_row_is_refused(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    token.update(actions=[ApiToken.user_id.set(new_id())])
    assert refusal(secret) == "token_invalid"


@contextmanager
def requests_seen() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The operations that the block sends to DynamoDB, with their arguments."""
    seen: list[tuple[str, dict[str, Any]]] = []
    events = shared_connection().client.meta.events

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        seen.append((model.name, params))

    events.register("provide-client-params.dynamodb.*", note, unique_id="requests-seen")
    try:
        yield seen
    finally:
        events.unregister("provide-client-params.dynamodb.*", unique_id="requests-seen")


def test_its_last_use_is_noted_once_an_hour(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    first = ApiToken.find(token.token_hash).last_used_at
    assert clock.now() - clock.parse_timestamp(first) < timedelta(minutes=1)
    with clock.shifted(timedelta(minutes=59)):
        api_token_verify(secret)
        assert ApiToken.find(token.token_hash).last_used_at == first
    with clock.shifted(timedelta(minutes=60)):
        api_token_verify(secret)
        assert ApiToken.find(token.token_hash).last_used_at > first


def test_noting_the_use_of_a_token_does_not_bring_it_back(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    api_token_verify(secret)
    with clock.shifted(timedelta(hours=2)):
        token.delete()
        assert refusal(secret) == "token_invalid"
    assert list(ApiToken.scan()) == []


def test_a_use_that_cannot_be_noted_is_no_reason_to_refuse(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)

    def fail(*_: Any, **__: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(ApiToken, "update", fail)
    assert api_token_verify(secret).id == token.token_id


def test_of_two_requests_at_once_one_notes_the_use(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    with ThreadPoolExecutor(4) as pool:
        assert {actor.id for actor in pool.map(api_token_verify, [secret] * 8)} == {token.token_id}
    later = clock.timestamp(clock.now() + timedelta(hours=5))
    with clock.shifted(timedelta(hours=2)), requests_seen() as seen:
        api_token_verify(secret)
        (update,) = [asked for operation, asked in seen if operation == "UpdateItem"]
    token.update(actions=[ApiToken.last_used_at.set(later)])
    # What the first one wrote is not overwritten by one that had read before.
    with pytest.raises(shared_connection().client.exceptions.ConditionalCheckFailedException):
        shared_connection().client.update_item(**update)


# --- how many --------------------------------------------------------------------------------------------------------


def tokens_made(user: User, number: int, *, expire: int = 0) -> list[ApiToken]:
    """This many tokens of the user, of which the first `expire` expire in a minute."""
    soon = clock.now() + timedelta(minutes=1)
    first, _ = api_token_create(user=user, name="0", actor=SYSTEM)
    first.delete()
    made = []
    for count in range(number):
        expires_at = soon.replace(microsecond=0) if count < expire else None
        own = {"token_hash": secret_hash(new_id()), "token_id": new_id(), "expires_at": expires_at}
        made.append(ApiToken(**{**first.attribute_values, **own}))
    with ApiToken.batch_write() as batch:
        for token in made:
            batch.save(token)
    return made


def test_expired_tokens_do_not_count_against_the_limit(ada: User) -> None:
    made = tokens_made(ada, MAX_TOKENS, expire=2)
    with pytest.raises(Conflict) as refused:
        api_token_create(user=ada, name="too many", actor=SYSTEM)
    assert refused.value.code == "too_many_tokens"
    with clock.shifted(timedelta(minutes=2)):
        for name in ("one", "two"):
            api_token_create(user=ada, name=name, actor=SYSTEM)
        with pytest.raises(Conflict):
            api_token_create(user=ada, name="three", actor=SYSTEM)
    left = {token.token_hash for token in api_token_list(ada.user_id)}
    assert len(left) == MAX_TOKENS
    assert left >= {token.token_hash for token in made[2:]}


def test_an_expired_token_stays_in_the_list_until_its_place_is_needed(ada: User) -> None:
    tokens_made(ada, MAX_TOKENS - 1, expire=5)
    with clock.shifted(timedelta(minutes=2)):
        api_token_create(user=ada, name="one more", actor=SYSTEM)
        assert len(api_token_list(ada.user_id)) == MAX_TOKENS
        api_token_create(user=ada, name="in place of another", actor=SYSTEM)
        assert len(api_token_list(ada.user_id)) == MAX_TOKENS


def test_a_user_of_an_earlier_version_with_many_expired_tokens_is_cut_to_the_limit(ada: User) -> None:
    tokens_made(ada, MAX_TOKENS + 50, expire=MAX_TOKENS + 40)
    with clock.shifted(timedelta(minutes=2)):
        api_token_create(user=ada, name="ci", actor=SYSTEM)
    assert len(api_token_list(ada.user_id)) == MAX_TOKENS


def test_more_expired_tokens_than_a_transaction_can_delete_go_by_and_by(ada: User) -> None:
    tokens_made(ada, 2 * MAX_TOKENS, expire=2 * MAX_TOKENS)
    with clock.shifted(timedelta(minutes=2)):
        for name in ("one", "two"):
            api_token_create(user=ada, name=name, actor=SYSTEM)
    assert len(api_token_list(ada.user_id)) == MAX_TOKENS


def test_a_revoked_token_that_the_index_still_lists_does_not_count(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens_made(ada, MAX_TOKENS)
    made[7].delete()
    query = ApiToken.by_user.query
    monkeypatch.setattr(ApiToken.by_user, "query", lambda *given, **named: [*query(*given, **named), made[7]])
    api_token_create(user=ada, name="ci", actor=SYSTEM)
    with pytest.raises(Conflict):
        api_token_create(user=ada, name="ci", actor=SYSTEM)


@pytest.mark.parametrize(("expired", "created"), [(1, False), (2, True)])
def test_two_requests_that_replace_the_same_expired_token_do_not_exceed_the_limit(
    ada: User, monkeypatch: pytest.MonkeyPatch, expired: int, created: bool
) -> None:
    tokens_made(ada, MAX_TOKENS, expire=expired)
    stored = api_tokens_stored

    def overtaken(*given: Any, **named: Any) -> Any:
        found = stored(*given, **named)
        monkeypatch.setattr(api_tokens_module, "api_tokens_stored", stored)
        api_token_create(user=ada, name="the other request's", actor=SYSTEM)
        return found

    monkeypatch.setattr(api_tokens_module, "api_tokens_stored", overtaken)
    with clock.shifted(timedelta(minutes=2)):
        if created:
            api_token_create(user=ada, name="ci", actor=SYSTEM)
        else:
            with pytest.raises(Conflict):
                api_token_create(user=ada, name="ci", actor=SYSTEM)
    assert len(api_token_list(ada.user_id)) == MAX_TOKENS


def test_a_creation_that_others_overtake_again_and_again_gives_up(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens_made(ada, MAX_TOKENS, expire=1)
    made[0].delete()
    tries = []

    def stale(*_: Any, **__: Any) -> tuple[int, list[ApiToken]]:
        tries.append(1)
        return MAX_TOKENS, made

    monkeypatch.setattr(api_tokens_module, "api_tokens_stored", stale)
    monkeypatch.setattr(api_tokens_module, "pause_before_retry", lambda _attempt: None)
    with clock.shifted(timedelta(minutes=2)), pytest.raises(Unavailable):
        api_token_create(user=ada, name="ci", actor=SYSTEM)
    assert len(tries) == 5
    assert len(api_token_list(ada.user_id)) == MAX_TOKENS - 1


def test_below_the_limit_a_token_costs_one_query_and_one_transaction(ada: User) -> None:
    with dynamodb_calls() as metering:
        api_token_create(user=ada, name="ci", actor=SYSTEM)
    assert metering.operations == ["Query", "TransactWriteItems"]


# --- tokens that make tokens -----------------------------------------------------------------------------------------


def test_a_token_that_is_revoked_while_it_creates_one_creates_none(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    actor = api_token_verify(secret)
    stored = api_tokens_stored

    def revoked_first(*given: Any, **named: Any) -> Any:
        ApiToken(token.token_hash).delete()
        return stored(*given, **named)

    monkeypatch.setattr(api_tokens_module, "api_tokens_stored", revoked_first)
    with pytest.raises(NotAuthenticated) as refused:
        api_token_create(user=ada, name="child", actor=actor)
    assert refused.value.code == "token_invalid"
    assert list(ApiToken.scan()) == []


def test_a_token_that_was_revoked_before_creates_none(ada: User) -> None:
    token, secret = api_token_create(user=ada, name="ci", actor=SYSTEM)
    actor = api_token_verify(secret)
    token.delete()
    with pytest.raises(NotAuthenticated):
        api_token_create(user=ada, name="child", actor=actor)


def test_a_token_passes_on_at_most_its_own_permissions_and_lifetime(ada: User) -> None:
    expires = (clock.now() + timedelta(days=1)).replace(microsecond=0)
    _, secret = api_token_create(
        user=ada, name="ci", permissions=["jobs.read", "tokens.manage"], expires_at=expires, actor=SYSTEM
    )
    actor = api_token_verify(secret)
    child, _ = api_token_create(user=ada, name="child", actor=actor)
    assert (child.permissions, child.expires_at) == (["jobs.read", "tokens.manage"], expires)
    same, _ = api_token_create(user=ada, name="child", expires_at=expires, actor=actor)
    assert same.expires_at == expires
    for field, members in (
        ("permissions", {"permissions": ["jobs.create"]}),
        ("expires_at", {"expires_at": expires + timedelta(seconds=1)}),
    ):
        with pytest.raises(InvalidInput) as refused:
            api_token_create(user=ada, name="child", actor=actor, **members)
        assert refused.value.errors[0]["field"] == field


def test_an_admin_gives_no_permission_that_they_lack_themselves(ada: User) -> None:
    partial = replace(ADMIN, permissions=frozenset({Permission.ACCOUNTS_MANAGE, Permission.JOBS_READ}))
    for permissions in (None, ["jobs.create"]):
        with pytest.raises(InvalidInput) as refused:
            api_token_create(user=ada, name="ci", permissions=permissions, actor=partial)
        assert refused.value.errors[0] == {"field": "permissions", "message": "must be permissions that you have"}
    assert api_token_create(user=ada, name="ci", permissions=["jobs.read"], actor=partial)[0].permissions == [
        "jobs.read"
    ]


def test_a_disabled_user_gets_no_token(ada: User) -> None:
    ada.is_active = False
    with pytest.raises(Conflict) as refused:
        api_token_create(user=ada, name="ci", actor=SYSTEM)
    assert refused.value.code == "account_disabled"


def test_strangers_create_no_tokens_for_others(ada: User) -> None:
    with pytest.raises(Forbidden):
        api_token_create(user=ada, name="ci", actor=Actor("user", new_id(), "Eve", ROLES["operator"]))


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb", " a\t"])
def test_a_name_that_is_no_line_of_1_to_100_characters_is_refused(ada: User, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        api_token_create(user=ada, name=name, actor=SYSTEM)
    assert refused.value.errors[0]["field"] == "name"


def test_a_name_is_kept_without_spaces_around_it(ada: User) -> None:
    token, _ = api_token_create(user=ada, name=f" {'X' * 100} ", actor=SYSTEM)
    assert (token.name, token.name_key) == ("X" * 100, "x" * 100)
    assert api_token_create(user=ada, name="x", actor=SYSTEM)[0].name == "x"


def test_what_a_new_token_may_do_and_until_when_is_recorded(ada: User) -> None:
    expires = clock.now() + timedelta(days=1)
    token, _ = api_token_create(
        user=ada, name="ci", permissions=["jobs.read", "agents.read", "jobs.read"], expires_at=expires, actor=ADMIN
    )
    forever, _ = api_token_create(user=ada, name="all", actor=ADMIN)
    assert token.permissions == ["agents.read", "jobs.read"]
    records = {record.target: record for record in AuditRecord.scan(AuditRecord.action == "api_token.created")}
    assert records[f"api_token:{token.token_id}"].detail == {
        "name": "ci",
        "owner": ada.user_id,
        "permissions": "agents.read jobs.read",
        "expires_at": clock.timestamp(expires.replace(microsecond=0)),
    }
    detail = records[f"api_token:{forever.token_id}"].detail
    assert (detail["permissions"], detail["expires_at"]) == ("all of the role", None)


def test_tokens_of_other_users_are_not_listed(ada: User) -> None:
    eve = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=SYSTEM)
    api_token_create(user=eve, name="hers", actor=SYSTEM)
    assert api_token_list(ada.user_id) == []


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
