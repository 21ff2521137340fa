"""Encryption under KMS: what opens, what KMS is asked, and what happens while it does not answer."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from controlplane.lib import data_keys
from controlplane.lib.aws import client
from controlplane.lib.data_keys import (
    ENCRYPTIONS_AT_MOST,
    LIFETIME_SECONDS,
    UnknownDataKey,
    data_key_for_encryption,
    data_key_open,
    data_keys_forget,
)
from controlplane.lib.envelope import DecryptionFailed, decrypt, encrypt
from controlplane.lib.errors import Unavailable
from tests.conftest import CloudServices

OTHER_KEY = pytest.mark.ministack("moto calls the wrong key a denied access")
CONTEXT = ("agent-key", "agent", "key")


@contextmanager
def kms_calls() -> Iterator[list[str]]:
    """The operations that the product asks of KMS in this block."""
    calls: list[str] = []

    def after(model: Any, **_: Any) -> None:
        calls.append(model.name)

    events = client("kms").meta.events
    events.register("after-call.kms.*", after, unique_id="count")
    try:
        yield calls
    finally:
        events.unregister("after-call.kms.*", unique_id="count")


@pytest.fixture
def clock_of_keys(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock by which data keys age; `now` is for the test to set."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(data_keys, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_encrypted_secret_opens_in_its_context_in_this_process_and_in_another(cloud_services: CloudServices) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    assert decrypt(text, context=CONTEXT) == b"secret"
    data_keys_forget()
    assert decrypt(text, context=CONTEXT) == b"secret"


def test_the_text_names_the_key_of_kms_and_carries_no_secret(cloud_services: CloudServices) -> None:
    version, key_id, *_ = encrypt(b"open sesame", context=CONTEXT).split(".")
    assert (version, key_id) == ("2", cloud_services.key_id)


def test_it_does_not_open_in_another_place(cloud_services: CloudServices) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    with pytest.raises(DecryptionFailed):
        decrypt(text, context=("agent-key", "agent", "other"))


def test_it_does_not_open_in_another_stage(cloud_services: CloudServices, settings: Any) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    data_keys_forget()
    settings.STAGE = "production"
    with pytest.raises(DecryptionFailed):
        decrypt(text, context=CONTEXT)


@pytest.mark.parametrize("part", [pytest.param(1, marks=OTHER_KEY), 2, 3, 4])
def test_a_text_with_a_part_of_another_does_not_open(cloud_services: CloudServices, part: int) -> None:
    text, other = encrypt(b"secret", context=CONTEXT).split("."), encrypt(b"other", context=CONTEXT).split(".")
    data_keys_forget()
    other[1] = cloud_services.kms.create_key()["KeyMetadata"]["KeyId"]
    other[2] = encrypt(b"third", context=CONTEXT).split(".")[2]
    text[part] = other[part]
    with pytest.raises(DecryptionFailed):
        decrypt(".".join(text), context=CONTEXT)


@contextmanager
def kms_refuses(code: str) -> Iterator[None]:
    """KMS answers with this error. The emulator accepts a data key under the id of any key; AWS does not."""

    def refuse(request: Any, **_: Any) -> AWSResponse:
        response = AWSResponse(request.url, 400, {"content-type": "application/x-amz-json-1.1"}, None)
        response._content = json.dumps({"__type": code, "message": "scripted"}).encode()
        return response

    events = client("kms").meta.events
    events.register_first("before-send.kms.*", refuse, unique_id="refuse")
    try:
        yield
    finally:
        events.unregister("before-send.kms.*", unique_id="refuse")


def test_a_data_key_that_is_cached_under_another_keys_id_is_not_used(cloud_services: CloudServices) -> None:
    own = data_key_for_encryption()
    with kms_calls() as calls, kms_refuses("IncorrectKeyException"), pytest.raises(UnknownDataKey):
        data_key_open("another", own.encrypted)
    assert calls == ["Decrypt"]
    with kms_calls() as calls:
        assert data_key_open(cloud_services.key_id, own.encrypted) is own
    assert calls == []


def test_a_data_key_that_kms_did_not_encrypt_is_a_mistake_of_the_text_and_all_else_an_outage(
    cloud_services: CloudServices,
) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    data_keys_forget()
    for code, error in (
        ("IncorrectKeyException", DecryptionFailed),
        ("InvalidCiphertextException", DecryptionFailed),
        ("AccessDeniedException", Unavailable),
        ("NotFoundException", Unavailable),
        ("KMSInternalException", Unavailable),
    ):
        with kms_refuses(code), pytest.raises(error):
            decrypt(text, context=CONTEXT)


def test_a_data_key_is_cached_under_its_own_name_only(cloud_services: CloudServices, settings: Any) -> None:
    first = data_key_for_encryption()
    other = cloud_services.kms.create_key()["KeyMetadata"]["KeyId"]
    settings.KMS_KEY_ID = other
    second = data_key_for_encryption()
    assert (first.kms_key_id, second.kms_key_id) == (cloud_services.key_id, other)
    assert first.encrypted != second.encrypted
    assert data_key_for_encryption() is second


def test_a_data_key_says_nothing_of_itself(cloud_services: CloudServices) -> None:
    assert "cipher" not in repr(data_key_for_encryption())


def test_a_text_names_a_key_by_its_id_only(cloud_services: CloudServices) -> None:
    text = encrypt(b"secret", context=CONTEXT).split(".")
    with kms_calls() as calls:
        for key_id in ("", "a/b", "alias:x", "x" * 65, "ü", "a b"):
            text[1] = key_id
            with pytest.raises(DecryptionFailed):
                decrypt(".".join(text), context=CONTEXT)
    assert calls == []


@pytest.mark.ministack("moto's keys stay usable when they are disabled")
def test_a_failed_call_of_kms_is_not_remembered(cloud_services: CloudServices) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    data_keys_forget()
    cloud_services.kms.disable_key(KeyId=cloud_services.key_id)
    for _ in range(2):
        with pytest.raises(Unavailable):
            decrypt(text, context=CONTEXT)
    cloud_services.kms.enable_key(KeyId=cloud_services.key_id)
    assert decrypt(text, context=CONTEXT) == b"secret"


def test_kms_binds_a_data_key_to_the_product_and_its_stage(cloud_services: CloudServices) -> None:
    asked: list[dict[str, Any]] = []
    events = client("kms").meta.events
    events.register(
        "provide-client-params.kms.*", lambda params, **_: asked.append(params["EncryptionContext"]), unique_id="asked"
    )
    text = encrypt(b"secret", context=CONTEXT)
    data_keys_forget()
    decrypt(text, context=CONTEXT)
    events.unregister("provide-client-params.kms.*", unique_id="asked")
    assert asked == [{"project": "hybrid-ci-cd", "stage": "test", "use": "seal"}] * 2


def test_a_text_cannot_name_a_key_of_another_account(cloud_services: CloudServices) -> None:
    text = encrypt(b"secret", context=CONTEXT).split(".")
    text[1] = f"arn:aws:kms:eu-central-1:999999999999:key/{cloud_services.key_id}"
    with kms_calls() as calls, pytest.raises(DecryptionFailed):
        decrypt(".".join(text), context=CONTEXT)
    assert calls == []


def test_what_was_encrypted_under_the_aliass_former_key_still_opens(
    cloud_services: CloudServices, settings: Any
) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    other = cloud_services.kms.create_key()["KeyMetadata"]["KeyId"]
    cloud_services.kms.update_alias(AliasName=settings.KMS_KEY_ID, TargetKeyId=other)
    data_keys_forget()
    assert decrypt(text, context=CONTEXT) == b"secret"
    assert encrypt(b"secret", context=CONTEXT).split(".")[1] == other


def test_what_the_key_file_encrypted_still_opens_where_the_file_is(
    settings: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings.KEY_FILE = tmp_path / "sealing.key"
    text = encrypt(b"secret", context=CONTEXT)
    request.getfixturevalue("cloud_services")
    assert decrypt(text, context=CONTEXT) == b"secret"
    assert encrypt(b"secret", context=CONTEXT).startswith("2.")
    settings.KEY_FILE = tmp_path / "elsewhere" / "sealing.key"
    with pytest.raises(DecryptionFailed, match=text.split(".")[1]):
        decrypt(text, context=CONTEXT)
    assert not settings.KEY_FILE.exists()


def test_one_call_of_kms_is_enough_for_many_encryptions_and_openings(cloud_services: CloudServices) -> None:
    with kms_calls() as calls:
        texts = [encrypt(b"secret", context=CONTEXT) for _ in range(20)]
        assert {decrypt(text, context=CONTEXT) for text in texts} == {b"secret"}
        assert calls == ["GenerateDataKey"]
        data_keys_forget()
        for _ in range(20):
            decrypt(texts[0], context=CONTEXT)
    assert calls == ["GenerateDataKey", "Decrypt"]


def test_a_data_key_is_used_for_an_hour_at_most(cloud_services: CloudServices, clock_of_keys: Any) -> None:
    assert timedelta(seconds=LIFETIME_SECONDS) == timedelta(hours=1)
    with kms_calls() as calls:
        text = encrypt(b"secret", context=CONTEXT)
        clock_of_keys.now += LIFETIME_SECONDS - 1
        encrypt(b"secret", context=CONTEXT)
        decrypt(text, context=CONTEXT)
        assert calls == ["GenerateDataKey"]
        clock_of_keys.now += 1
        decrypt(text, context=CONTEXT)
        encrypt(b"secret", context=CONTEXT)
    assert calls == ["GenerateDataKey", "Decrypt", "GenerateDataKey"]


def test_a_data_key_encrypts_a_bounded_number_of_texts(cloud_services: CloudServices) -> None:
    assert ENCRYPTIONS_AT_MOST == 1_000
    with kms_calls() as calls:
        keys = [data_key_for_encryption().encrypted for _ in range(2 * ENCRYPTIONS_AT_MOST + 1)]
    assert calls == ["GenerateDataKey"] * 3
    assert list(Counter(keys).values()) == [ENCRYPTIONS_AT_MOST, ENCRYPTIONS_AT_MOST, 1]


@pytest.mark.parametrize("alias", ["alias/there-is-none", "not a name"])
def test_a_key_that_is_not_there_is_a_failure_of_ours_and_not_of_the_text(
    cloud_services: CloudServices, settings: Any, alias: str
) -> None:
    settings.KMS_KEY_ID = alias
    with pytest.raises(Unavailable):
        encrypt(b"secret", context=CONTEXT)


@pytest.mark.ministack("moto's keys stay usable when they are disabled")
def test_a_disabled_key_opens_nothing_and_says_so_as_an_outage(cloud_services: CloudServices) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    data_keys_forget()
    cloud_services.kms.disable_key(KeyId=cloud_services.key_id)
    with pytest.raises(Unavailable):
        decrypt(text, context=CONTEXT)
    with pytest.raises(Unavailable):
        encrypt(b"secret", context=CONTEXT)
