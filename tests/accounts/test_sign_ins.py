"""What the audit trail keeps of failed sign-ins."""

from typing import Any

import pytest

from apps.accounts.identities import ProviderIdentity
from apps.accounts.services import provider_sign_in_failed, sign_in_failed_record
from apps.accounts.services.users import MAX_EMAIL
from apps.audit.models import AuditRecord
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Forbidden, NotAuthenticated, TooManyRequests

pytestmark = pytest.mark.usefixtures("tables")

ADDRESS = "198.51.100.7"
EVE = ProviderIdentity("google", "666", "eve@evil.example", "Eve")
NOT_ALLOWED = Forbidden("This account is not allowed to sign in here.", code=ErrorCode.NOT_ALLOWED)


def only_record() -> AuditRecord:
    (record,) = AuditRecord.scan()
    return record


def test_a_failed_password_is_recorded_as_refused_by_an_unknown_actor() -> None:
    sign_in_failed_record(email="ada@example.com", provider="password", address=ADDRESS)
    record = only_record()
    assert (record.action, record.result, record.target) == ("user.sign_in_failed", "refused", "email:ada@example.com")
    assert (record.actor_kind, record.actor_id, record.actor_name) == ("user", "unknown", "not signed in")
    assert record.detail == {"provider": "password", "address": ADDRESS}


@pytest.mark.parametrize(
    ("email", "target"),
    [
        ("a password typed into the wrong field", "email:unknown"),
        ("", "email:unknown"),
        ("x" * (MAX_EMAIL - 1) + "@", "email:" + "x" * 193 + "…"),
        ("x" * MAX_EMAIL + "@", "email:unknown"),
    ],
)
def test_only_what_looks_like_an_address_is_recorded(email: str, target: str) -> None:
    sign_in_failed_record(email=email, provider="password", address=ADDRESS)
    assert only_record().target == target


def test_a_person_whom_the_provider_has_vouched_for_is_recorded_with_the_reason() -> None:
    provider_sign_in_failed(error=NOT_ALLOWED, provider="google", address=ADDRESS, identity=EVE, claimed="1001")
    record = only_record()
    assert record.target == "email:eve@evil.example"
    assert record.detail == {
        "provider": "google",
        "address": ADDRESS,
        "reason": "not_allowed",
        "subject": "666",
        "claimed": "1001",
    }


def test_a_person_without_a_verified_address_is_recorded_by_the_providers_id() -> None:
    identity = ProviderIdentity("github", "666", None, "Eve")
    provider_sign_in_failed(error=NOT_ALLOWED, provider="github", address=ADDRESS, identity=identity)
    record = only_record()
    assert (record.target, record.detail["subject"]) == ("email:unknown", "666")
    assert "claimed" not in record.detail


def test_a_refused_token_is_recorded_although_no_identity_is_known(settings: Any) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 1
    error = NotAuthenticated("Google does not know this access token.", code=ErrorCode.PROVIDER_TOKEN_INVALID)
    for _ in range(2):
        # No account is known, so none has a limit: the client's own limit is the caller's matter.
        provider_sign_in_failed(error=error, provider="google", address=ADDRESS, identity=None, claimed="1001")
    first, second = AuditRecord.scan()
    assert first.target == second.target == "email:unknown"
    assert first.detail["reason"] == "provider_token_invalid"


def test_an_identity_over_its_limit_is_not_recorded_and_others_are(settings: Any, new_window: None) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 1
    provider_sign_in_failed(error=NOT_ALLOWED, provider="google", address=ADDRESS, identity=EVE)
    with pytest.raises(TooManyRequests):
        provider_sign_in_failed(error=NOT_ALLOWED, provider="google", address="192.0.2.1", identity=EVE)
    assert len(list(AuditRecord.scan())) == 1
    same_number = ProviderIdentity("github", "666", "eve@evil.example", "Eve")
    provider_sign_in_failed(error=NOT_ALLOWED, provider="github", address=ADDRESS, identity=same_number)
    assert len(list(AuditRecord.scan())) == 2
