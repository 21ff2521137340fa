"""Encrypting values, and their fingerprints."""

import pytest

from apps.secrets.models import SecretVersion
from apps.secrets.services.values import (
    fingerprint,
    fingerprint_key_make,
    fingerprint_of,
    value_decrypt,
    value_encrypt,
)
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.errors import Conflict
from tests.secrets.conftest import VALUE, secret_made


def test_a_value_comes_back_whatever_its_characters() -> None:
    for value in (VALUE, "zwölf 🔑 lines\nand\r\nanother\n", "x" * 32_768):
        encrypted = value_encrypt(value, secret_id="A", number=1)
        assert value not in encrypted
        assert value_decrypt(SecretVersion("A", 1, encrypted=encrypted)) == value


def test_a_version_without_a_value_says_so() -> None:
    with pytest.raises(Conflict, match="Version 3 of the secret A is retired: it has no value") as caught:
        value_decrypt(SecretVersion("A", 3, state="retired"))
    assert caught.value.code == "secret_version_ended"


def test_a_fingerprint_needs_the_key_of_its_secret(tables: None) -> None:
    secret, other = secret_made("A_TOKEN"), secret_made("B_TOKEN")
    assert fingerprint_of(secret, VALUE) == secret.fingerprint
    assert fingerprint_of(secret, f"{VALUE} ") != secret.fingerprint
    with pytest.raises(DecryptionFailed):
        fingerprint(VALUE, secret_id=str(secret.secret_id), encrypted_key=str(other.fingerprint_key))
    assert fingerprint_key_make("A_TOKEN") != fingerprint_key_make("A_TOKEN")
