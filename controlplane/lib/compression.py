"""Decompressing what clients send, with bounded memory."""

import zlib

# zlib's window size for a gzip header and trailer.
_GZIP = 31


def gunzip(packed: bytes, *, limit: int) -> bytes:
    """The content of one gzip stream, of which at most `limit` + 1 bytes are decompressed.

    A result that is longer than `limit` shows that the content is. Raises ValueError when `packed` is not exactly one
    complete gzip stream.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        data = stream.decompress(packed, limit + 1)
    except zlib.error as error:
        raise ValueError(f"this is not gzip: {error}") from None
    if len(data) <= limit and (not stream.eof or stream.unused_data):
        raise ValueError("this is not one complete gzip stream")
    return data
