"""HPKE, the hybrid public key encryption of RFC 9180: how to open one message in base mode.

The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20Poly1305.
"""

from __future__ import annotations

import hashlib
import hmac

from agent import chacha20poly1305, x25519
from agent.chacha20poly1305 import NotAuthentic

_VERSION = b"HPKE-v1"
_KEM = b"KEM" + (0x0020).to_bytes(2, "big")
_SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0003))
_MODE_BASE = b"\0"


class CannotOpen(Exception):
    """The message is not one for this key and `info`, or it was changed."""


def message_open(private: bytes, message: bytes, *, info: bytes, data: bytes = b"") -> bytes:
    """The text of a message: the sender's key, followed by what is encrypted. Raises CannotOpen."""
    sender, encrypted = message[: x25519.SIZE], message[x25519.SIZE :]
    try:
        agreed = x25519.shared_secret(private, sender)
        secret = _extract_and_expand(agreed, sender + x25519.public_key(private))
        key, nonce = _key_schedule(secret, info)
        return chacha20poly1305.decrypt(key, nonce, encrypted, data)
    except (ValueError, NotAuthentic):
        # Without the first error: it says nothing more, and what it refers to has keys.
        raise CannotOpen("the message is not for this key, or it was changed") from None


def _extract_and_expand(agreed: bytes, context: bytes) -> bytes:
    return _expand(_extract(b"", b"eae_prk", agreed, _KEM), b"shared_secret", context, 32, _KEM)


def _key_schedule(secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """The key and the nonce of the first message."""
    hashes = _extract(b"", b"psk_id_hash", b"", _SUITE) + _extract(b"", b"info_hash", info, _SUITE)
    context = _MODE_BASE + hashes
    prk = _extract(secret, b"secret", b"", _SUITE)
    key = _expand(prk, b"key", context, chacha20poly1305.KEY_BYTES, _SUITE)
    return key, _expand(prk, b"base_nonce", context, chacha20poly1305.NONCE_BYTES, _SUITE)


def _extract(salt: bytes, label: bytes, material: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), _VERSION + suite + label + material, hashlib.sha256)


def _expand(prk: bytes, label: bytes, info: bytes, size: int, suite: bytes) -> bytes:
    """HKDF-Expand with a label; `size` is at most 32, so that one round is enough."""
    labeled = size.to_bytes(2, "big") + _VERSION + suite + label + info
    return hmac.digest(prk, labeled + b"\1", hashlib.sha256)[:size]
