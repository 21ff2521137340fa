"""Puts `***` in place of secret values in output, before it leaves the machine or reaches the disk.

Values are found in many forms (`agent.secret_forms`) and across the borders of pieces of any size. Of output that may
be the beginning of a value, at least the bytes from the fourth on wait until more output shows whether it is one.

How it is fast: wherever a form begins, it has four bytes at a place whose number is a multiple of four, and they are
among its first seven. So a set of such groups of four finds all candidates, and only those are compared.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from typing import Optional

from agent.secret_forms import Form, secret_forms

MASK = b"***"
# So much of the beginning of a value never leaves the machine, also if the rest never comes.
HELD_BYTES = 4

_GROUP = 4
# A form of so many bytes has a whole group at each place that it may begin at. Shorter ones are searched one by one.
_LEAST_GROUPED = 2 * _GROUP - 1
# After a line break within the first bytes of a wrapped form, the groups of the following bytes find it.
_WRAPPED_GROUPS = 10
# A shorter wrapped form may have no whole group in its place, neither before nor after the line break. Then its first
# bytes are before it.
_LEAST_WRAPPED = 13
# A line break in a wrapped form, and the white space that may follow.
_BREAK = re.compile(rb"\r?\n[ \t]{0,32}")
_UNFINISHED_BREAK = re.compile(rb"\r\Z|\r?\n[ \t]{0,32}\Z")
_BREAK_BYTES = 34
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")

_NO, _UNDECIDED = -1, -2


class Masks:
    """The secret values of one job. All streams and texts of the job share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: set[Form] = set()
        # Groups of four bytes, each with the forms that have it and its place in them.
        self.groups: dict[int, list[tuple[Form, int]]] = {}
        self.short: list[Form] = []
        # Forms of which the first group is searched for, wherever it is.
        self.short_wrapped: list[Form] = []
        # The first bytes of forms, up to where their groups begin to find them, and those of wrapped forms alone.
        self.beginnings: set[bytes] = set()
        self.wrapped_beginnings: set[bytes] = set()
        # The most bytes that are such a beginning, with a line break.
        self.reach = 0
        # Changes with each value.
        self.version = 0

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, values: Iterable[str]) -> None:
        """Mask these values from now on."""
        with self._lock:
            for value in values:
                for form in secret_forms(value) - self._forms:
                    self._forms.add(form)
                    self._index(form)
            self.version += 1

    def _index(self, form: Form) -> None:
        text = form.text
        if len(text) < _LEAST_GROUPED:
            self.short.append(form)
        else:
            most = min(_WRAPPED_GROUPS if form.wrapped else _GROUP, len(text) - _GROUP + 1)
            for place in range(most):
                self.groups.setdefault(_group(text, place), []).append((form, place))
            if form.wrapped and len(text) < _LEAST_WRAPPED:
                self.short_wrapped.append(form)
        most = _WRAPPED_GROUPS + _GROUP if form.wrapped else _LEAST_GROUPED
        beginnings = {text[:size] for size in range(1, min(most, len(text)))}
        self.beginnings |= beginnings
        if form.wrapped:
            self.wrapped_beginnings |= beginnings
        self.reach = max(self.reach, most + (_BREAK_BYTES if form.wrapped else 0))

    def mask(self, data: bytes) -> bytes:
        """A whole text with its secret values masked."""
        if not self:
            return data
        stream = MaskedStream(self)
        return stream.feed(data) + stream.rest()

    def mask_text(self, text: str) -> str:
        """As `mask`, for text."""
        if not self:
            return text
        return self.mask(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def covers(self, text: str) -> bool:
        """Whether there is a secret value in the text."""
        return self.mask_text(text) != text


class MaskedStream:
    """Masks output that comes in pieces."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        # The bytes that may belong to a value, and what is known of them.
        self._kept = b""
        # How many of them are out already, and whether the last that is out is a mask.
        self._out = 0
        self._in_mask = False
        # How many came before them. Places of groups are counted from the beginning of the output, so that one that a
        # search found incomplete is at such a place for the next one, too.
        self._dropped = 0
        # How many of them were searched, and for which values.
        self._searched = 0
        self._version = 0
        # Where values begin that have not ended yet, and values that were found after those.
        self._open: list[tuple[int, Form]] = []
        self._found: list[tuple[int, int]] = []

    @property
    def waits(self) -> bool:
        """Whether bytes wait that `release` could put out now."""
        return self._out < len(self._kept) and bool(self._masks) and self._releasable() > self._out

    def feed(self, data: bytes) -> bytes:
        """What can be put out after this piece of output."""
        if not self._masks and not self._kept:
            return data
        buffer = self._kept + data
        self._search(buffer)
        return self._put_out(buffer, min(self._undecided(buffer), default=len(buffer)))

    def release(self) -> bytes:
        """No more output came for a while: put out what is too little to be the beginning of a value."""
        return self._put_out(self._kept, self._releasable())

    def end(self) -> bytes:
        """The output is over: put out all. The beginning of a value is masked."""
        buffer = self._kept
        # The line break at the end of the output is none of a value.
        end = len(buffer.rstrip())
        starts = [start for start in self._undecided(buffer) if end - start >= HELD_BYTES]
        if starts:
            self._found.append((min(starts), end))
        return self._put_all(buffer)

    def rest(self) -> bytes:
        """As `end`, but for a text that is complete: the beginning of a value is none."""
        return self._put_all(self._kept)

    def _put_all(self, buffer: bytes) -> bytes:
        self._open.clear()
        data = self._put_out(buffer, len(buffer), is_over=True)
        self._kept, self._out, self._searched, self._in_mask = b"", 0, 0, False
        return data

    def _releasable(self) -> int:
        size = len(self._kept)
        return min((start for start in self._undecided(self._kept) if size - start >= HELD_BYTES), default=size)

    def _undecided(self, buffer: bytes) -> list[int]:
        """Where values may begin whose end is still to come."""
        starts = [start for start, _ in self._open]
        masks, size = self._masks, len(buffer)
        for start in range(max(0, size - masks.reach), size):
            if buffer[start : start + 1] not in masks.beginnings:
                continue
            tail = buffer[start:]
            is_broken = b"\n" in tail or tail.endswith(b"\r")
            if tail in masks.beginnings or (is_broken and _joined(tail) in masks.wrapped_beginnings):
                # Later ones lie within.
                return [*starts, start]
        return starts

    def _search(self, buffer: bytes) -> None:
        """Find the values in the bytes that were not searched yet, and the ends of those that are open."""
        if self._version != self._masks.version:
            self._version, self._searched = self._masks.version, 0
            self._open.clear()
        candidates = [*self._open, *self._candidates(buffer, max(0, self._searched - _LEAST_GROUPED + 1))]
        self._open = []
        for start, form in dict.fromkeys(candidates):
            end = _match(form, buffer, start)
            if end == _UNDECIDED:
                self._open.append((start, form))
            elif end != _NO:
                self._found.append(_widened(form, buffer, start, end))
        self._searched = len(buffer)

    def _candidates(self, buffer: bytes, begin: int) -> Iterator[tuple[int, Form]]:
        """Where forms may begin that have a group of bytes after `begin`."""
        groups = self._masks.groups
        first = begin - (self._dropped + begin) % _GROUP
        first += _GROUP if first < 0 else 0
        count = max(0, len(buffer) - first) // _GROUP
        view = memoryview(buffer)[first : first + count * _GROUP].cast("I")
        if not groups.keys().isdisjoint(view):
            for number, group in enumerate(view):
                if group in groups:
                    for form, place in groups[group]:
                        start = _start(form, buffer, first + number * _GROUP, place)
                        if start is not None:
                            yield start, form
        for form in self._masks.short:
            yield from ((start, form) for start in _places(form.text, buffer, begin))
        for form in self._masks.short_wrapped:
            yield from ((start, form) for start in _places(form.text[:_GROUP], buffer, begin))

    def _put_out(self, buffer: bytes, limit: int, *, is_over: bool = False) -> bytes:
        """The bytes up to `limit`, and the masks for the values that begin before it. Keeps what may be needed."""
        parts: list[bytes] = []
        self._found.sort()
        later = []
        for start, end in self._found:
            if end <= self._out:
                continue
            if start > self._out:
                self._raw(buffer, min(start, limit), parts)
            if start > limit:
                later.append((start, end))
                continue
            if not self._in_mask or start >= self._out:
                parts.append(MASK)
            self._in_mask, self._out = True, end
        self._raw(buffer, limit, parts)
        undecided = [] if is_over else self._undecided(buffer)
        kept = min([self._out, *undecided, *(start for start, _ in later)])
        self._kept = buffer[kept:]
        self._dropped += kept
        self._out -= kept
        self._searched -= kept
        self._open = [(start - kept, form) for start, form in self._open]
        self._found = [(start - kept, end - kept) for start, end in later]
        return b"".join(parts)

    def _raw(self, buffer: bytes, end: int, parts: list[bytes]) -> None:
        if end > self._out:
            parts.append(buffer[self._out : end])
            self._out, self._in_mask = end, False


def _group(text: bytes, place: int) -> int:
    return memoryview(text[place : place + _GROUP]).cast("I")[0]


def _places(text: bytes, buffer: bytes, begin: int) -> Iterator[int]:
    """Where the text is in the buffer, from `begin` on."""
    start = buffer.find(text, begin)
    while start >= 0:
        yield start
        start = buffer.find(text, start + 1)


def _joined(text: bytes) -> bytes:
    """The text without its line breaks."""
    return _UNFINISHED_BREAK.sub(b"", _BREAK.sub(b"", text))


def _start(form: Form, buffer: bytes, at: int, place: int) -> Optional[int]:
    """Where the form begins if it has at `at` its bytes from `place` on. None if others are before them."""
    start = at - place
    if start >= 0 and buffer.startswith(form.text[:place], start):
        return start
    if not form.wrapped:
        return None
    for left in range(place, 0, -1):
        if at == 0:
            return None
        if buffer[at - 1] != form.text[left - 1]:
            before = buffer[max(0, at - _BREAK_BYTES) : at]
            found = re.search(rb"\r?\n[ \t]{0,32}\Z", before)
            if not found:
                return None
            at -= len(before) - found.start()
            if at == 0 or buffer[at - 1] != form.text[left - 1]:
                return None
        at -= 1
    return at


def _match(form: Form, buffer: bytes, start: int) -> int:
    """Where the form ends that begins at `start`: a place, _UNDECIDED if the buffer ends before, or _NO."""
    text = form.text
    if buffer.startswith(text, start):
        return start + len(text)
    if len(buffer) - start < len(text) and text.startswith(buffer[start:]):
        return _UNDECIDED
    return _match_wrapped(text, buffer, start) if form.wrapped else _NO


def _match_wrapped(text: bytes, buffer: bytes, at: int) -> int:
    done = 0
    while True:
        size = min(len(text) - done, len(buffer) - at)
        if buffer.startswith(text[done : done + size], at):
            return at + size if done + size == len(text) else _UNDECIDED
        found = _BREAK.search(buffer, at, at + size + _BREAK_BYTES)
        end = found.start() if found else len(buffer) - 1
        if not found and not buffer.endswith(b"\r"):
            return _NO
        # A line break after no byte at all ends the value.
        if end <= at or not buffer.startswith(text[done : done + end - at], at):
            return _NO
        done += end - at
        if not found or found.end() == len(buffer):
            return _UNDECIDED
        at = found.end()


def _widened(form: Form, buffer: bytes, start: int, end: int) -> tuple[int, int]:
    """The place of a value with the characters around it that have bits of it."""
    if form.before and start > 0 and buffer[start - 1] in _BASE64:
        start -= 1
    if form.after and end < len(buffer) and buffer[end] in _BASE64:
        end += 1
    return start, end
