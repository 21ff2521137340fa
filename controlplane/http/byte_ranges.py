"""The request header Range: a part of a response, in bytes (RFC 9110 section 14)."""

import re
from typing import NamedTuple

from django.http import HttpRequest

_ONE_RANGE = re.compile(r"bytes=\s*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\s*", re.ASCII | re.IGNORECASE)


class ByteRange(NamedTuple):
    """The bytes from `first` up to, but not including `end`."""

    first: int
    end: int


def byte_range(request: HttpRequest, *, size: int, etag: str) -> ByteRange | None:
    """The one range that the request asks for, of `size` bytes whose strong entity tag is `etag`.

    None if the whole is to be sent: there is no Range, it asks for several parts or is malformed, or If-Range names
    another version. If the range has no byte of those that there are, `first` and `end` are equal (the answer is 416).
    """
    found = _ONE_RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or request.headers.get("If-Range", etag) != etag:
        return None
    if found[3]:
        return ByteRange(max(0, size - int(found[3])), size)
    first = int(found[1])
    if found[2] and int(found[2]) < first:
        return None
    return ByteRange(min(first, size), min(size, int(found[2]) + 1) if found[2] else size)
