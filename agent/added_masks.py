"""Values that the steps of a job make and want to be masked from then on: ``::add-mask::VALUE`` and ``agent.pyz mask``.

Their number and size are bounded, so that no job slows the agent down.
"""

from __future__ import annotations

import re
import threading

from agent.masking import MaskedStream, Masks

LEAST_CHARACTERS = 4
MOST_BYTES = 32 * 1024
MOST_VALUES = 100
MOST_BYTES_TOGETHER = 128 * 1024

_COMMAND = b"::add-mask::"
# As GitHub Actions has them: a value of several lines in one line.
_ESCAPE = re.compile("%(?:25|0D|0A)", re.IGNORECASE)
# Of a line with the command. A value may have three characters for each of its bytes.
_MOST_LINE_BYTES = 3 * MOST_BYTES + 100


class AddedMasks:
    """Adds values of one job to its masks."""

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._bytes = 0

    def add(self, value: str) -> str:
        """Mask the value from now on. Returns why that cannot be, or an empty text."""
        value = value.strip("\r\n")
        size = len(value.encode("utf-8", "surrogateescape"))
        if len(value.strip()) < LEAST_CHARACTERS or size > MOST_BYTES:
            return f"it must have at least {LEAST_CHARACTERS} characters and at most {MOST_BYTES:,} bytes"
        with self._lock:
            if value in self._values:
                return ""
            if len(self._values) >= MOST_VALUES or self._bytes + size > MOST_BYTES_TOGETHER:
                return f"a job may mask at most {MOST_VALUES} values with {MOST_BYTES_TOGETHER:,} bytes together"
            self._values.add(value)
            self._bytes += size
        self.masks.add([value])
        return ""

    def serve(self, value: str) -> tuple[int, str]:
        """Answer a step that asks to mask the value: an exit code, and what it prints."""
        reason = self.add(value)
        return (1, f"the value is not masked: {reason}.") if reason else (0, "")


class StepOutput:
    """What steps print, on its way to the log: values are masked, and lines with ``::add-mask::`` are taken out."""

    def __init__(self, added: AddedMasks) -> None:
        self._added = added
        self._stream = MaskedStream(added.masks)
        # The beginning of a line that may be a command, or is one.
        self._line = b""
        self._at_line_start = True
        # Whether the rest of a line that was too long is left out.
        self._is_skipping = False

    @property
    def waits(self) -> bool:
        """Whether there is something that `release` could put out."""
        return self._stream.waits

    def feed(self, data: bytes) -> bytes:
        """What can be put out after these bytes."""
        return self._stream.feed(self._without_commands(data))

    def release(self) -> bytes:
        """What can be put out since no more came for a while."""
        return self._stream.release()

    def end(self) -> bytes:
        """The rest, since the output is over."""
        rest = self._stream.feed(self._command(self._line) if self._line.startswith(_COMMAND) else self._line)
        self._line, self._at_line_start, self._is_skipping = b"", True, False
        return rest + self._stream.end()

    def _without_commands(self, data: bytes) -> bytes:
        if self._is_skipping:
            _, found, data = data.partition(b"\n")
            self._is_skipping = not found
        data, self._line = self._line + data, b""
        parts = []
        begin = at = 0
        while (found_at := data.find(_COMMAND, at)) >= 0:
            at = found_at + len(_COMMAND)
            if not (self._at_line_start if found_at == 0 else data[found_at - 1 : found_at] == b"\n"):
                continue
            parts.append(data[begin:found_at])
            end = data.find(b"\n", at)
            if end < 0:
                parts.append(self._unfinished(data[found_at:]))
                return b"".join(parts)
            parts.append(self._command(data[found_at:end]))
            begin = at = end + 1
            self._at_line_start = True
        rest = data[begin:]
        last = rest[rest.rfind(b"\n") + 1 :]
        if last and (self._at_line_start or len(last) < len(rest)) and _COMMAND.startswith(last):
            self._line, rest = last, rest[: -len(last)]
        parts.append(rest)
        if rest:
            self._at_line_start = rest.endswith(b"\n")
        return b"".join(parts)

    def _unfinished(self, line: bytes) -> bytes:
        """Keep the beginning of a command's line. Returns what to put out instead of one that is too long."""
        self._at_line_start = True
        if len(line) <= _MOST_LINE_BYTES:
            self._line = line
            return b""
        self._is_skipping = True
        return self._command(line)

    def _command(self, line: bytes) -> bytes:
        """Mask the value of a command's line. Returns what to put out in its place."""
        text = line[len(_COMMAND) :].rstrip(b"\r").decode("utf-8", "surrogateescape")
        decoded = _ESCAPE.sub(lambda match: chr(int(match[0][1:], 16)), text)
        reasons = [self._added.add(value) for value in dict.fromkeys((decoded, text))]
        return f"── a value of add-mask is not masked: {reasons[0]}\n".encode() if reasons[0] else b""
