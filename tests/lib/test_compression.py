"""Decompressing with bounded memory."""

import gzip
import tracemalloc

import pytest

from controlplane.lib.compression import gunzip


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)) * 10, b"x" * 100_000])
def test_the_content_comes_back(data: bytes) -> None:
    assert gunzip(gzip.compress(data), limit=100_000) == data


def test_of_a_bomb_only_the_limit_and_one_byte_are_decompressed() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        assert len(gunzip(bomb, limit=100_000)) == 100_001
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_is_not_exactly_one_stream_is_refused() -> None:
    good = gzip.compress(b"what the job printed" * 100)
    damaged = bytearray(good)
    damaged[-5] ^= 1
    for packed in (b"", b"nonsense", good[:-1], good[:-8], good + b"x", good + gzip.compress(b""), bytes(damaged)):
        with pytest.raises(ValueError, match="gzip"):
            gunzip(packed, limit=100_000)
