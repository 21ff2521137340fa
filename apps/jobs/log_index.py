"""Where the lines of a log are: marks by which a reader finds a line without reading what comes before it.

A line ends with a line feed and nothing else, so cutting a log into chunks anywhere gives the same lines. Lines are
numbered from 1 in each attempt, and offsets count from the beginning of the attempt.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from controlplane.lib.line_times import LineTimes
from controlplane.lib.sgr import PLAIN, Style, style_after

# The most bytes between two marks: what a reader reads to find a line.
BLOCK_BYTES = 64 * 1024
# Of a short log, so many bytes of times are stored in any case.
_TIMES_BYTES = 600
_LINE_FEED = ord("\n")

# The line that the agent prints before each step, and the same with its outcome after it.
_TITLE_BEGINS = "── step ".encode()
_TITLE = re.compile(rb"^" + _TITLE_BEGINS + rb"([0-9]{1,4})/[0-9]{1,4}: [^\n]*\n", re.MULTILINE)
_ENDS = re.compile(r" · (exit code [0-9]{1,3}|timed out|cancelled) after ([0-9]{1,9}\.[0-9]) s\n\Z".encode())
# GitHub's commands that begin and end a group of lines: https://docs.github.com/actions/reference/workflow-commands
_GROUP_WORD = b"group"
_GROUP = re.compile(rb"^(?:::|##\[)(end)?group(?: [^\n]*?)?(?:::|\])[^\n]*\n", re.MULTILINE)
# A longer line is none of these.
_TITLE_BYTES = 1024
# Groups beyond so many beginnings and ends are not listed.
MAX_GROUPS = 2_000

# The beginning of an SGR sequence at the end of a text, and how long one can be.
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;:]{0,64})?\Z")
_LONGEST_SEQUENCE = 66


class Mark(NamedTuple):
    """A place in an attempt's log. `lines` is the number of line feeds before it; `style` that of the text there."""

    offset: int
    lines: int
    style: str


class StepEnd(NamedTuple):
    """The last line of a step, how it ended as the log says it ("exit code 0"), and after how many seconds."""

    line: int
    outcome: str
    seconds: float


@dataclass
class LogIndex:
    """The marks of an attempt's log up to `size` bytes with `lines` line feeds. The first mark is its beginning.

    `ends_open` says that there is text behind the last line feed.
    """

    marks: list[Mark] = field(default_factory=lambda: [Mark(0, 0, "")])
    size: int = 0
    lines: int = 0
    ends_open: bool = False
    # The number of the line at which each step begins, by the number of the step from 1.
    steps: dict[int, int] = field(default_factory=dict)
    # How steps ended, by their number.
    ends: dict[int, StepEnd] = field(default_factory=dict)
    # The numbers of the lines that begin a group, and negative ones of those that end one: at most MAX_GROUPS.
    groups: list[int] = field(default_factory=list)
    # When the lines were printed.
    times: LineTimes = field(default_factory=LineTimes)
    # What the text after `size` would be printed in, and the bytes of an escape sequence that the last chunk cut off.
    style: Style = PLAIN
    cut: bytes = b""
    # The text behind the last line feed, or None if it is too long for the title of a step.
    open_line: bytes | None = b""

    @property
    def total(self) -> int:
        """The number of lines; text behind the last line feed is one."""
        return self.lines + self.ends_open

    def add(self, data: bytes, times: Sequence[tuple[int, int]] = ()) -> None:
        """Go on with the next bytes of the log. Where they were cut makes no difference.

        `times` says when they were printed: places in `data`, in order, and for each the milliseconds since 1970.
        """
        self._times_add(data, times)
        start = 0
        while start < len(data):
            part = data[start : start + BLOCK_BYTES - self.size % BLOCK_BYTES]
            self._parts_find(part)
            self.size += len(part)
            self.lines += part.count(b"\n")
            text = self.cut + part
            self.style = style_after(text, self.style)
            begun = _BEGUN.search(text, max(0, len(text) - _LONGEST_SEQUENCE))
            self.cut = begun[0] if begun else b""
            start += len(part)
            if self.size % BLOCK_BYTES == 0:
                self._mark()
        if data:
            self.ends_open = not data.endswith(b"\n")

    def _times_add(self, data: bytes, times: Sequence[tuple[int, int]]) -> None:
        """Note when the lines were printed that begin in `data`. A line that is printed in parts has the first time."""
        number, place, begins = self.lines + 1, 0, not self.ends_open
        ends = [*(offset for offset, _ in times[1:]), len(data)]
        for (offset, at), end in zip(times, ends, strict=False):
            number += data.count(b"\n", place, offset)
            if offset:
                begins = data[offset - 1] == _LINE_FEED
            place = offset
            if begins:
                self.times.add(number, at)
            elif -1 < data.find(b"\n", offset, end) < end - 1:
                self.times.add(number + 1, at)

    def _parts_find(self, part: bytes) -> None:
        """Find the lines at which steps and groups begin and end."""
        begins_line = self.open_line is not None
        text = (self.open_line or b"") + part
        if _TITLE_BEGINS in text:
            for number, match in self._lines_like(_TITLE, text, begins_line=begins_line):
                step = int(match[1])
                if self.steps.setdefault(step, number) != number and (end := _ENDS.search(match[0])):
                    self.ends[step] = StepEnd(number, end[1].decode(), float(end[2]))
        if _GROUP_WORD in text:
            for number, match in self._lines_like(_GROUP, text, begins_line=begins_line):
                if len(self.groups) < MAX_GROUPS:
                    self.groups.append(-number if match[1] else number)
        _, line_feed, rest = text.rpartition(b"\n")
        if line_feed or begins_line:
            self.open_line = rest if len(rest) <= _TITLE_BYTES else None

    def _lines_like(
        self, pattern: re.Pattern[bytes], text: bytes, *, begins_line: bool
    ) -> Iterator[tuple[int, re.Match[bytes]]]:
        """The lines of the text that match, with their numbers."""
        counted, number = 0, self.lines + 1
        for match in pattern.finditer(text):
            number += text.count(b"\n", counted, match.start())
            counted = match.start()
            if (counted or begins_line) and len(match[0]) <= _TITLE_BYTES + 1:
                yield number, match

    def _mark(self) -> None:
        # Before an escape sequence that is not complete: it belongs to what follows.
        mark = Mark(self.size - len(self.cut), self.lines, str(self.style))
        if mark.offset > self.marks[-1].offset:
            self.marks.append(mark)

    def mark_of_line(self, number: int) -> Mark:
        """The last mark at or before the beginning of line `number`. Line 1 begins at the beginning."""
        # Line n begins after the line feed n - 1, so the mark must have fewer of them.
        after = bisect_left(self.marks, number - 1, key=lambda mark: mark.lines)
        return self.marks[max(0, after - 1)]

    def mark_of_offset(self, offset: int) -> Mark:
        """The last mark at or before the offset."""
        return self.marks[bisect_right(self.marks, offset, key=lambda mark: mark.offset) - 1]

    def as_json(self) -> dict[str, Any]:
        """For `from_json`, in less than 2 % of the log's size and 1 KB more.

        Lists of numbers are kept as the differences from the one before. "times" is what versions of before read.
        """
        styles = {str(number): mark.style for number, mark in enumerate(self.marks) if mark.style}
        return {
            "size": self.size,
            "lines": self.lines,
            "ends_open": self.ends_open,
            "style": str(self.style),
            "offsets": _differences(mark.offset for mark in self.marks),
            "line_feeds": _differences(mark.lines for mark in self.marks),
            "times": _differences(self.times.at(mark.lines + 1) // 1000 for mark in self.marks),
            "line_times": self.times.as_json(_TIMES_BYTES + self.size // 60),
            "styles": styles,
            "steps": {str(step): line for step, line in self.steps.items()},
            "ends": {str(step): end for step, end in self.ends.items()},
            "groups": _differences(2 * abs(line) + (line < 0) for line in self.groups),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LogIndex":
        """The index of a log that has ended."""
        styles = value["styles"]
        places = zip(*(_sums(value[name]) for name in ("offsets", "line_feeds")), strict=True)
        marks = [Mark(offset, lines, styles.get(str(number), "")) for number, (offset, lines) in enumerate(places)]
        return cls(
            marks=marks,
            size=value["size"],
            lines=value["lines"],
            ends_open=value["ends_open"],
            steps={int(step): line for step, line in value["steps"].items()},
            # Earlier versions stored neither of these.
            ends={int(step): StepEnd(*end) for step, end in value.get("ends", {}).items()},
            groups=[-(code // 2) if code % 2 else code // 2 for code in _sums(value.get("groups", []))],
            times=_times_from_json(value),
            style=Style.parse(value["style"]),
        )


def indexes_dump(indexes: Iterable[LogIndex]) -> bytes:
    """The indexes of a job's attempts, in their order, as the text that is stored beside the archived log."""
    return json.dumps([index.as_json() for index in indexes], separators=(",", ":")).encode()


def indexes_load(text: bytes) -> list[LogIndex]:
    """The indexes that `indexes_dump` wrote."""
    return [LogIndex.from_json(value) for value in json.loads(text)]


def _times_from_json(value: dict[str, Any]) -> LineTimes:
    if "line_times" in value:
        return LineTimes.from_json(value["line_times"])
    # An index of an earlier version: each mark had the second in which the text there arrived.
    times = LineTimes()
    for lines, at in zip(_sums(value["line_feeds"]), _sums(value["times"]), strict=True):
        if at:
            times.add(lines + 1, at * 1000)
    return times


def _differences(numbers: Iterable[int]) -> list[int]:
    before = 0
    found = []
    for number in numbers:
        found.append(number - before)
        before = number
    return found


def _sums(differences: Iterable[int]) -> list[int]:
    total = 0
    found = []
    for difference in differences:
        total += difference
        found.append(total)
    return found
