"""Sealed boxes of libsodium, which GitHub asks for: only the owner of a public key can open them.

https://doc.libsodium.org/public-key_cryptography/sealed_boxes. PyNaCl would make a tenth of the package on Lambda. Of
what a box needs, cryptography and the standard library lack only the cipher XSalsa20, which is here. Tests open the
boxes with PyNaCl.
"""

import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.poly1305 import Poly1305

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_WORD = 0xFFFFFFFF
_BLOCK = 64
# Where a quarter round reads and writes, column by column and then row by row: section 5 of the specification,
# https://cr.yp.to/snuffle/spec.pdf.
_QUARTERS = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)


def seal(data: bytes, public_key: bytes) -> bytes:
    """The data in a box for this X25519 key of 32 bytes. Raises ValueError for a key that is none."""
    own = X25519PrivateKey.generate()
    ephemeral = own.public_key().public_bytes_raw()
    shared = own.exchange(X25519PublicKey.from_public_bytes(public_key))
    nonce = hashlib.blake2b(ephemeral + public_key, digest_size=24).digest()
    key = _hsalsa20(_hsalsa20(shared, bytes(16)), nonce[:16])
    # The first 32 bytes of the stream are the key of the authenticator.
    padded = _xor_salsa20(bytes(32) + data, key, nonce[16:])
    tag = Poly1305.generate_tag(padded[:32], padded[32:])
    return ephemeral + tag + padded[32:]


def _xor_salsa20(data: bytes, key: bytes, nonce: bytes) -> bytes:
    words = struct.unpack("<8I", key)
    place = struct.unpack("<2I", nonce)
    parts = []
    for number in range(-(-len(data) // _BLOCK)):
        start = _state(words, (*place, number & _WORD, number >> 32))
        mixed = _mixed(start)
        stream = struct.pack("<16I", *((one + other) & _WORD for one, other in zip(start, mixed, strict=True)))
        part = data[number * _BLOCK : (number + 1) * _BLOCK]
        parts.append(bytes(one ^ other for one, other in zip(part, stream, strict=False)))
    return b"".join(parts)


def _hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """A key of 32 bytes from a key and 16 bytes: section 2 of https://cr.yp.to/snuffle/xsalsa-20110204.pdf."""
    mixed = _mixed(_state(struct.unpack("<8I", key), struct.unpack("<4I", nonce)))
    return struct.pack("<8I", *(mixed[place] for place in (0, 5, 10, 15, 6, 7, 8, 9)))


def _state(key: tuple[int, ...], middle: tuple[int, ...]) -> list[int]:
    first, second, third, fourth = _CONSTANTS
    return [first, *key[:4], second, *middle, third, *key[4:], fourth]


def _mixed(start: list[int]) -> list[int]:
    """The state after twenty rounds."""
    state = list(start)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            state[b] ^= _turned(state[a] + state[d], 7)
            state[c] ^= _turned(state[b] + state[a], 9)
            state[d] ^= _turned(state[c] + state[b], 13)
            state[a] ^= _turned(state[d] + state[c], 18)
    return state


def _turned(word: int, bits: int) -> int:
    word &= _WORD
    return (word << bits | word >> (32 - bits)) & _WORD
