"""X25519, the key agreement of RFC 7748, in integers alone. Values are 32 bytes.

Python's integers take a time that depends on their values. A key that serves one agreement alone, as the agent's keys
do, gives no second measurement.
"""

from __future__ import annotations

import secrets

SIZE = 32

_P = 2**255 - 19
_A24 = 121665
_BASE = (9).to_bytes(SIZE, "little")


def private_key() -> bytes:
    """A new private key."""
    return secrets.token_bytes(SIZE)


def public_key(private: bytes) -> bytes:
    """The public key of a private one."""
    return _multiply(private, _BASE)


def shared_secret(private: bytes, public: bytes) -> bytes:
    """What both sides of the agreement know. Raises ValueError if the other side's key leaves nothing to choose."""
    if len(public) != SIZE:
        raise ValueError("a public key has 32 bytes")
    shared = _multiply(private, public)
    if not any(shared):
        raise ValueError("the public key has a small order")
    return shared


def _multiply(scalar: bytes, point: bytes) -> bytes:
    """The function X25519 of RFC 7748, section 5, by its Montgomery ladder."""
    factor = int.from_bytes(scalar, "little")
    factor = (factor & ~7 & ((1 << 254) - 1)) | (1 << 254)
    x1 = (int.from_bytes(point, "little") & ((1 << 255) - 1)) % _P
    x2, z2, x3, z3 = 1, 0, x1, 1
    swap = 0
    for position in range(254, -1, -1):
        bit = factor >> position & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b = x2 + z2, x2 - z2
        aa, bb = a * a % _P, b * b % _P
        e = aa - bb
        da, cb = (x3 - z3) * a % _P, (x3 + z3) * b % _P
        x3, z3 = (da + cb) ** 2 % _P, x1 * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + _A24 * e) % _P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(SIZE, "little")
