"""How the agent opens secrets: X25519, ChaCha20-Poly1305 and HPKE in the standard library alone."""

from __future__ import annotations

import json
import secrets
import time

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.chacha20poly1305 import NotAuthentic, decrypt, key_stream, poly1305
from agent.hpke import CannotOpen, message_open
from agent.x25519 import private_key, public_key, shared_secret
from tests.examples import examples

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
KEYS = st.binary(min_size=32, max_size=32)
INFO = b"hybrid-ci secrets\0agent\0job\0001"
hexed = bytes.fromhex


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_has_the_vectors_of_rfc_7748(scalar: str, point: str, product: str) -> None:
    assert shared_secret(hexed(scalar), hexed(point)).hex() == product


@pytest.mark.parametrize(
    ("rounds", "result"),
    [
        (1, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"),
        pytest.param(
            1000,
            "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_x25519_has_the_repeated_vectors_of_rfc_7748(rounds: int, result: str) -> None:
    scalar = point = bytes([9, *bytes(31)])
    for _ in range(rounds):
        scalar, point = shared_secret(scalar, point), scalar
    assert scalar.hex() == result


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little"), b"x"])
def test_a_public_key_that_fixes_the_result_is_refused(point: bytes) -> None:
    with pytest.raises(ValueError, match="public key"):
        shared_secret(private_key(), point)


def test_chacha20_and_poly1305_have_the_vectors_of_rfc_8439() -> None:
    block = key_stream(bytes(range(32)), hexed("000000090000004a00000000"), 1, 64)
    assert block.hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )
    key = hexed("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    assert poly1305(key, b"Cryptographic Forum Research Group").hex() == "a8061dc1305136c6c22b8baf0c0127a9"


def test_the_authenticated_encryption_has_the_vector_of_rfc_8439() -> None:
    encrypted = hexed(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
        "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
    )
    opened = decrypt(
        bytes(range(0x80, 0xA0)), hexed("070000004041424344454647"), encrypted, hexed("50515253c0c1c2c3c4c5c6c7")
    )
    assert opened == (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )


def test_hpke_has_the_vector_of_rfc_9180() -> None:
    """Appendix A.2.1: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305."""
    private = hexed("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    sender = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
    encrypted = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    opened = message_open(
        private, hexed(sender + encrypted), info=hexed("4f6465206f6e2061204772656369616e2055726e"), data=b"Count-0"
    )
    assert opened == b"Beauty is truth, truth beauty"


@settings(max_examples=examples(15), deadline=None)
@given(KEYS, KEYS)
def test_x25519_agrees_with_a_library(first: bytes, second: bytes) -> None:
    theirs = X25519PrivateKey.from_private_bytes(first)
    assert public_key(first) == theirs.public_key().public_bytes_raw()
    other = X25519PrivateKey.from_private_bytes(second).public_key()
    assert shared_secret(first, other.public_bytes_raw()) == theirs.exchange(other)


@settings(max_examples=examples(25), deadline=None)
@given(KEYS, st.binary(min_size=12, max_size=12), st.binary(max_size=70_000), st.binary(max_size=100), st.data())
def test_chacha20poly1305_agrees_with_a_library(
    key: bytes, nonce: bytes, text: bytes, data: bytes, draw: st.DataObject
) -> None:
    encrypted = ChaCha20Poly1305(key).encrypt(nonce, text, data)
    assert decrypt(key, nonce, encrypted, data) == text
    place = draw.draw(st.integers(0, len(encrypted) - 1))
    changed = bytearray(encrypted)
    changed[place] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(NotAuthentic):
        decrypt(key, nonce, bytes(changed), data)
    with pytest.raises(NotAuthentic):
        decrypt(key, nonce, encrypted, data + b"x")


@settings(max_examples=examples(15), deadline=None)
@given(st.binary(max_size=5000), st.binary(max_size=100), st.data())
def test_hpke_opens_what_a_library_encrypted_and_nothing_else(text: bytes, info: bytes, draw: st.DataObject) -> None:
    private = private_key()
    encrypted = SUITE.encrypt(text, X25519PublicKey.from_public_bytes(public_key(private)), info=info)
    assert message_open(private, encrypted, info=info) == text
    changed = bytearray(encrypted)
    changed[draw.draw(st.integers(0, len(encrypted) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    # X25519 ignores the last bit of a key, but what the sender sent is part of the key schedule.
    for other, key, context in (
        (bytes(changed), private, info),
        (encrypted, private_key(), info),
        (encrypted, private, b"x" + info),
    ):
        with pytest.raises(CannotOpen):
            message_open(key, other, info=context)
    with pytest.raises(InvalidTag):
        SUITE.decrypt(bytes(changed), X25519PrivateKey.from_private_bytes(private), info=info)


@pytest.mark.parametrize("encrypted", [b"", b"x" * 31, b"x" * 32, b"x" * 47, bytes(100)])
def test_a_message_that_is_too_short_or_has_no_key_is_refused(encrypted: bytes) -> None:
    with pytest.raises(CannotOpen):
        message_open(private_key(), encrypted, info=INFO)


def test_twenty_secrets_of_32_kb_open_within_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    private = private_key()
    document = json.dumps({"secrets": [{"name": f"S{n}", "value": secrets.token_hex(16 * 1024)} for n in range(20)]})
    encrypted = SUITE.encrypt(document.encode(), X25519PublicKey.from_public_bytes(public_key(private)), info=INFO)
    began = time.process_time()
    opened = message_open(private, encrypted, info=INFO)
    took = time.process_time() - began
    assert opened == document.encode()
    assert took < 2
    with capsys.disabled():
        print(f"\n20 secrets of 32 KB open in {took * 1000:.0f} ms")
