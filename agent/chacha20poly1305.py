"""ChaCha20-Poly1305, the authenticated encryption of RFC 8439: only how to open.

All blocks of a piece of the key stream are computed at once: one large integer has the same word of each block, 32 bits
in a lane of 64. So additions and rotations cannot reach the lane beside.
"""

from __future__ import annotations

import hmac
import struct
import sys
from array import array

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_BLOCK_BYTES = 64
# More at once are no faster: the integers would leave the processor's cache.
_MOST_BLOCKS = 512
_P = (1 << 130) - 5
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
# The words of each quarter round: of the columns, and then of the diagonals.
_QUARTERS = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


class NotAuthentic(Exception):
    """The key, the nonce or the data are not those with which it was encrypted."""


def decrypt(key: bytes, nonce: bytes, encrypted: bytes, data: bytes = b"") -> bytes:
    """The text of `encrypted`, which ends with the tag. `data` is authenticated with it. Raises NotAuthentic."""
    text, tag = encrypted[:-TAG_BYTES], encrypted[-TAG_BYTES:]
    lengths = struct.pack("<QQ", len(data), len(text))
    expected = poly1305(key_stream(key, nonce, 0, 32), _padded(data) + _padded(text) + lengths)
    if len(encrypted) < TAG_BYTES or not hmac.compare_digest(expected, tag):
        raise NotAuthentic
    stream = key_stream(key, nonce, 1, len(text))
    return (int.from_bytes(text, "little") ^ int.from_bytes(stream, "little")).to_bytes(len(text), "little")


def key_stream(key: bytes, nonce: bytes, counter: int, size: int) -> bytes:
    """So many bytes of ChaCha20's key stream, from the block `counter` on."""
    parts = []
    left = -(-size // _BLOCK_BYTES)
    while left:
        count = min(left, _MOST_BLOCKS)
        parts.append(_blocks(key, nonce, counter, count))
        counter += count
        left -= count
    return b"".join(parts)[:size]


def poly1305(key: bytes, message: bytes) -> bytes:
    """The tag of the message, with a key of 32 bytes that serves once."""
    r = int.from_bytes(key[:16], "little") & _CLAMP
    total = 0
    for start in range(0, len(message), 16):
        part = message[start : start + 16]
        total = (total + int.from_bytes(part, "little") + (1 << 8 * len(part))) * r % _P
    return (total + int.from_bytes(key[16:32], "little") & (1 << 128) - 1).to_bytes(16, "little")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _blocks(key: bytes, nonce: bytes, counter: int, count: int) -> bytes:
    """The key stream of so many blocks."""
    ones = int.from_bytes(array("Q", [1]).tobytes() * count, sys.byteorder)
    mask = ones * 0xFFFFFFFF
    counters = int.from_bytes(array("Q", range(counter, counter + count)).tobytes(), sys.byteorder)
    words = (*_CONSTANTS, *struct.unpack("<8I", key), 0, *struct.unpack("<3I", nonce))
    begin = [ones * word for word in words]
    begin[12] = counters & mask
    state = list(begin)
    for _ in range(10):
        for quarter in _QUARTERS:
            _quarter_round(state, quarter, mask)
    stream = array("I", bytes(_BLOCK_BYTES * count))
    for place, (word, first) in enumerate(zip(state, begin)):
        lanes = array("I")
        lanes.frombytes((word + first & mask).to_bytes(8 * count, "little"))
        stream[place::16] = lanes[::2]
    return stream.tobytes()


def _quarter_round(state: list[int], places: tuple[int, int, int, int], mask: int) -> None:
    a, b, c, d = (state[place] for place in places)
    a = a + b & mask
    d ^= a
    d = (d << 16 | d >> 16) & mask
    c = c + d & mask
    b ^= c
    b = (b << 12 | b >> 20) & mask
    a = a + b & mask
    d ^= a
    d = (d << 8 | d >> 24) & mask
    c = c + d & mask
    b ^= c
    b = (b << 7 | b >> 25) & mask
    for place, word in zip(places, (a, b, c, d)):
        state[place] = word
