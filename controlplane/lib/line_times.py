"""When the lines of a text were printed, in little memory: of many lines the times are kept less exactly."""

import json
import zlib
from array import array
from base64 import b85decode, b85encode
from bisect import bisect_right
from collections.abc import Iterable
from copy import copy
from itertools import accumulate, pairwise
from typing import Any

# Times that are closer to each other count as one, at first.
_SPACING = 10
# So many times are kept, by wider spacing if there are more: 24 hours of output have one every 2.56 s.
_MOST = 50_000


class LineTimes:
    """Times of lines, which are numbered from 1. Times are milliseconds since 1970 and never decrease.

    A line has the time of the last line at or before it whose time is known, so it is off by less than the spacing.
    """

    def __init__(self) -> None:
        self._spacing = _SPACING
        self._lines = array("Q")
        self._times = array("Q")

    def add(self, line: int, at: int) -> None:
        """Line `line` began at `at`. Lines come in order. A time before the last one counts as that."""
        if self._times and (at < self._times[-1] + self._spacing or line <= self._lines[-1]):
            return
        self._lines.append(line)
        self._times.append(at)
        if len(self._times) > _MOST:
            self._widen()

    def at(self, line: int) -> int:
        """When the line was printed, or 0 if that is not known."""
        place = bisect_right(self._lines, line)
        return self._times[place - 1] if place else 0

    def as_json(self, limit: int) -> dict[str, Any]:
        """For `from_json`, in about `limit` bytes at most: of fewer times, if all of them are too long."""
        kept = copy(self)
        while len(text := kept._packed()) > limit and len(kept._times) > 1:
            kept._widen()
        return {"spacing": kept._spacing, "times": text}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LineTimes":
        """The times that `as_json` gave, less exact by at most an eighth of the spacing."""
        times = cls()
        times._spacing = value["spacing"]
        lines, moments = json.loads(zlib.decompress(b85decode(value["times"])))
        times._lines = array("Q", accumulate(lines))
        times._times = array("Q", (moment * times._unit for moment in accumulate(moments)))
        return times

    @property
    def _unit(self) -> int:
        """The exactness of stored times in milliseconds."""
        return max(1, self._spacing // 8)

    def _packed(self) -> str:
        moments = (at // self._unit for at in self._times)
        numbers = [_differences(self._lines), _differences(moments)]
        return b85encode(zlib.compress(json.dumps(numbers, separators=(",", ":")).encode(), 9)).decode()

    def _widen(self) -> None:
        self._spacing *= 2
        before = zip(self._lines, self._times, strict=True)
        self._lines, self._times = array("Q"), array("Q")
        for line, at in before:
            if not self._times or at >= self._times[-1] + self._spacing:
                self._lines.append(line)
                self._times.append(at)


def _differences(numbers: Iterable[int]) -> list[int]:
    return [after - before for before, after in pairwise([0, *numbers])]
