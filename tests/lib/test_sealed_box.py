"""Sealed boxes: libsodium, by PyNaCl, opens what we seal."""

import pytest
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from controlplane.lib.sealed_box import seal


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 96, 500])
def test_libsodium_opens_our_boxes(size: int) -> None:
    key = PrivateKey.generate()
    data = bytes(number % 251 for number in range(size))
    box = seal(data, bytes(key.public_key))
    assert SealedBox(key).decrypt(box) == data
    assert box != seal(data, bytes(key.public_key))


def test_a_box_that_was_changed_or_is_for_another_key_is_not_opened() -> None:
    key = PrivateKey.generate()
    box = seal(b"a secret", bytes(key.public_key))
    for damaged in (box[:-1] + bytes([box[-1] ^ 1]), box[:40] + bytes([box[40] ^ 1]) + box[41:]):
        with pytest.raises(CryptoError):
            SealedBox(key).decrypt(damaged)
    with pytest.raises(CryptoError):
        SealedBox(PrivateKey.generate()).decrypt(box)


@pytest.mark.parametrize("key", [b"", b"k" * 31, bytes(32)])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — cryptography's own
        seal(b"a secret", key)
