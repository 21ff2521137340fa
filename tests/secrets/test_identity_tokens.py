"""Identity tokens as a service: what they are made of, how many there are, and what is recorded."""

import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.core.cache import cache

from apps.audit.models import AuditRecord
from apps.secrets.services import identity_tokens
from apps.secrets.services.identity_tokens import (
    identity_token_issue,
    identity_token_refused,
    identity_tokens_used_up,
    published_keys,
)
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, TooManyRequests, Unprocessable
from controlplane.nosql.transaction import Transaction, TransactionFailed
from tests.properties.consistency import Items
from tests.secrets.test_identity_claims import identity

AGENT = Actor("agent", "agent1", "build-1")
ISSUER = "https://ci.example.com"

pytestmark = pytest.mark.usefixtures("tables")


def issue(audience: str = "vault", **members: Any) -> str:
    """A token of a transaction that is committed."""
    tx = Transaction()
    asking = identity(ends_at=clock.now() + timedelta(hours=1), **members)
    token = identity_token_issue(tx, agent=AGENT, identity=asking, audience=audience, issuer=ISSUER)
    tx.commit()
    return token


def recorded() -> list[tuple[str, Any]]:
    """The actions in the trail, each with its details."""
    return [(item["action"]["S"], json.loads(item["detail"]["S"])) for item in Items().of(AuditRecord)]


def test_a_published_key_verifies_a_token(tables: None) -> None:
    token = issue()
    keys = jwt.PyJWKSet.from_dict({"keys": published_keys()})
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="vault", issuer=ISSUER)
    ((action, detail),) = recorded()
    assert (action, detail["token"], detail["subject"]) == ("identity_token.issued", claims["jti"], claims["sub"])


def test_published_keys_have_no_private_part() -> None:
    for key in published_keys():
        assert key.keys() == {"kty", "use", "alg", "kid", "n", "e"}


@pytest.mark.parametrize("audience", ["", " ", "a b", "a\n", "\x00", "zürich", "a" * 256])
def test_an_audience_is_visible_ascii(audience: str) -> None:
    with pytest.raises(InvalidInput, match="audience"):
        issue(audience)
    assert recorded() == []


def test_a_token_that_kms_could_not_sign_is_refused_by_name() -> None:
    with pytest.raises(Unprocessable) as refused:
        issue(git_ref="ü" * 255)
    assert refused.value.code == ErrorCode.IDENTITY_TOKEN_TOO_LONG


def test_the_transaction_fails_for_one_token_more_than_an_attempt_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_tokens, "MOST_OF_AN_ATTEMPT", 2)
    issue()
    issue()
    with pytest.raises(TransactionFailed) as failure:
        issue()
    assert "limit" in failure.value.failed
    assert [action for action, _ in recorded()] == ["identity_token.issued"] * 2
    # From then on the process asks neither KMS nor DynamoDB about this attempt.
    identity_tokens_used_up(identity())
    with pytest.raises(TooManyRequests, match="2 identity tokens already"):
        issue()
    issue(attempt=3)


def test_a_refusal_is_recorded_once_for_each_job_and_reason_also_by_two_processes() -> None:
    for code in (ErrorCode.STALE_ATTEMPT, ErrorCode.STALE_ATTEMPT, ErrorCode.ENVIRONMENT_FORBIDDEN):
        identity_token_refused(agent=AGENT, job_id="job1", attempt=1, audience="vault", code=code)
        cache.clear()
    assert sorted(detail["code"] for _, detail in recorded()) == ["environment_forbidden", "stale_attempt"]
