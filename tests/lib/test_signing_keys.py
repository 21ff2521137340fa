"""Keys that sign: in files, and in KMS."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from controlplane.lib import clock
from controlplane.lib import signing_keys as signing_keys_module
from controlplane.lib.aws import client
from controlplane.lib.signing_keys import (
    EDDSA,
    PUBLISHED_AFTER,
    PUBLISHED_BEFORE,
    RS256,
    SIGNED_MOST,
    Purpose,
    identity_key_age,
    identity_keys_delete_ended,
    key_id_of,
    signing_key,
    signing_key_create,
    signing_keys,
    verify,
)
from tests.conftest import CloudServices


@pytest.fixture
def key_folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for keys in files, which are short ones, since those of 2,048 bits take a while to make."""
    monkeypatch.setattr(signing_keys_module, "_RSA_BITS", 1024)
    settings.KEY_FILE = tmp_path / "sealing.key"
    settings.SIGNING_KEY_IDS = []
    return tmp_path / "signing"


@pytest.mark.parametrize(
    ("purpose", "algorithm", "kind"),
    [(Purpose.AUDIT, EDDSA, ed25519.Ed25519PublicKey), (Purpose.IDENTITY, RS256, rsa.RSAPublicKey)],
)
def test_the_first_use_creates_a_key_that_signs_from_then_on(
    key_folder: Path, purpose: Purpose, algorithm: str, kind: type
) -> None:
    key = signing_key(purpose)
    assert key.algorithm == algorithm
    assert isinstance(key.public_key, kind)
    assert signing_key(purpose).key_id == key.key_id == key_id_of(key.public_key)
    verify(key.public_key, key.sign(b"data"), b"data")
    with pytest.raises(InvalidSignature):
        verify(key.public_key, key.sign(b"data"), b"other data")
    assert [path.stat().st_mode & 0o777 for path in key_folder.iterdir()] == [0o600]


def test_a_new_key_signs_and_the_earlier_ones_still_verify(key_folder: Path) -> None:
    before = signing_key(Purpose.AUDIT)
    signature = before.sign(b"data")
    after = signing_key_create(Purpose.AUDIT)
    assert after.key_id != before.key_id
    assert [key.key_id for key in signing_keys(Purpose.AUDIT)] == [after.key_id, before.key_id]
    verify(signing_keys(Purpose.AUDIT)[1].public_key, signature, b"data")


def test_keys_of_the_two_purposes_differ(key_folder: Path) -> None:
    assert signing_key(Purpose.AUDIT).key_id != signing_key(Purpose.IDENTITY).key_id
    assert len(list(key_folder.iterdir())) == 2


def test_a_key_file_that_other_users_can_read_is_refused(key_folder: Path) -> None:
    signing_key_create(Purpose.AUDIT)
    signing_key_create(Purpose.AUDIT)
    newest = max(key_folder.iterdir())
    newest.rename(newest.with_name(f"9{newest.name}")).chmod(0o644)
    with pytest.raises(RuntimeError, match=r"Other users can read .* Run: chmod 600"):
        signing_key(Purpose.AUDIT)


def test_keys_of_kms_sign_both_and_the_first_one_is_used(cloud_services: CloudServices, settings: Any) -> None:
    ids = [
        client("kms").create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"] for _ in range(2)
    ]
    settings.SIGNING_KEY_IDS = ids
    for purpose in Purpose:
        key, older = signing_keys(purpose)
        data = b"x" * SIGNED_MOST
        verify(key.public_key, key.sign(data), data)
        with pytest.raises(InvalidSignature):
            verify(older.public_key, key.sign(data), data)
    with pytest.raises(RuntimeError, match="SIGNING_KEY_IDS"):
        signing_key_create(Purpose.AUDIT)


def test_a_key_of_kms_that_does_not_sign_is_refused_by_name(cloud_services: CloudServices, settings: Any) -> None:
    key_id = client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    settings.SIGNING_KEY_IDS = [key_id]
    with pytest.raises(RuntimeError, match=rf"{key_id} in SIGNING_KEY_IDS must be an RSA key that signs"):
        signing_key(Purpose.AUDIT)


def test_an_alias_of_kms_that_moves_to_another_key_does_not_mix_the_two(
    cloud_services: CloudServices, settings: Any
) -> None:
    kms = client("kms")
    first, second = (
        kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"] for _ in range(2)
    )
    alias = f"alias/moves-{first}"
    kms.create_alias(AliasName=alias, TargetKeyId=first)
    settings.SIGNING_KEY_IDS = [alias]
    key = signing_key(Purpose.IDENTITY)
    kms.update_alias(AliasName=alias, TargetKeyId=second)
    verify(key.public_key, key.sign(b"data"), b"data")


def published() -> list[str]:
    """The ids of the identity keys, the one that signs first."""
    return [key.key_id for key in signing_keys(Purpose.IDENTITY)]


def test_a_new_identity_key_is_published_for_a_day_before_it_signs(key_folder: Path) -> None:
    first = signing_key(Purpose.IDENTITY).key_id
    with clock.shifted(timedelta(days=90)):
        second = signing_key_create(Purpose.IDENTITY).key_id
        assert published() == [first, second]
    with clock.shifted(timedelta(days=90) + PUBLISHED_BEFORE - timedelta(seconds=1)):
        assert published() == [first, second]
    with clock.shifted(timedelta(days=90) + PUBLISHED_BEFORE + timedelta(seconds=1)):
        assert published() == [second, first]


def test_the_identity_key_before_stays_published_until_its_last_token_has_ended(key_folder: Path) -> None:
    first = signing_key(Purpose.IDENTITY).key_id
    second = signing_key_create(Purpose.IDENTITY).key_id
    ends = PUBLISHED_BEFORE + PUBLISHED_AFTER
    with clock.shifted(ends - timedelta(seconds=1)):
        assert published() == [second, first]
        assert identity_keys_delete_ended() == 0
    with clock.shifted(ends + timedelta(seconds=1)):
        assert published() == [second]
        assert (identity_keys_delete_ended(), identity_keys_delete_ended()) == (1, 0)
        assert published() == [second]
        assert len(list(key_folder.iterdir())) == 1


def test_several_new_identity_keys_sign_one_after_the_other(key_folder: Path) -> None:
    first = signing_key(Purpose.IDENTITY).key_id
    hour = timedelta(hours=1)
    with clock.shifted(hour):
        second = signing_key_create(Purpose.IDENTITY).key_id
    with clock.shifted(2 * hour):
        third = signing_key_create(Purpose.IDENTITY).key_id
    assert published() == [first, third, second]
    with clock.shifted(PUBLISHED_BEFORE + 1.5 * hour):
        assert published() == [second, third, first]
    with clock.shifted(PUBLISHED_BEFORE + 2.5 * hour):
        assert published() == [third, second, first]


def test_the_next_identity_key_signs_at_once_when_the_one_before_is_deleted(key_folder: Path) -> None:
    """So an operator ends a key that others may have seen."""
    signing_key(Purpose.IDENTITY)
    second = signing_key_create(Purpose.IDENTITY).key_id
    min(key_folder.iterdir()).unlink()
    assert published() == [second]


def test_the_age_of_identity_keys_is_that_of_the_newest(key_folder: Path) -> None:
    assert identity_key_age() < timedelta(minutes=1)
    with clock.shifted(timedelta(days=90)):
        assert timedelta(days=90) <= identity_key_age() < timedelta(days=90, minutes=1)
        signing_key_create(Purpose.IDENTITY)
        assert identity_key_age() < timedelta(minutes=1)


def test_a_key_that_cannot_be_recorded_is_not_created(key_folder: Path) -> None:
    first = signing_key(Purpose.IDENTITY).key_id
    recorded: list[str] = []

    def fail(key_id: str) -> None:
        recorded.append(key_id)
        raise RuntimeError("not recorded")

    with pytest.raises(RuntimeError, match="not recorded"):
        signing_key_create(Purpose.IDENTITY, record=fail)
    assert published() == [first]
    assert len(list(key_folder.iterdir())) == 1
    assert signing_key_create(Purpose.IDENTITY, record=recorded.append).key_id == recorded[1]


def test_an_identity_key_under_another_name_is_refused_by_name(key_folder: Path) -> None:
    signing_key(Purpose.IDENTITY)
    (file,) = key_folder.iterdir()
    file.rename(file.with_name("old.identity.pem"))
    with pytest.raises(RuntimeError, match=r"old\.identity\.pem must have the name that it was created with"):
        signing_key(Purpose.IDENTITY)
