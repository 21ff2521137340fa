"""The output of jobs on a terminal. When several run, each line begins with the name of its job."""

from __future__ import annotations

import os
import sys
import threading
from typing import BinaryIO

from agent.added_masks import AddedMasks, StepOutput
from agent.masking import Masks

_COLOURS = (36, 33, 35, 32, 34, 31)
_DIM, _RESET = "\033[2m", "\033[0m"


class Console:
    """Writes whole lines from any thread."""

    def __init__(self, output: BinaryIO, *, colours: bool) -> None:
        self._output = output
        self._lock = threading.Lock()
        self.colours = colours

    @classmethod
    def standard(cls) -> Console:
        """The standard output, with colours if it is a terminal that wants them (https://no-color.org)."""
        return cls(sys.stdout.buffer, colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ)

    def write(self, data: bytes) -> None:
        """Write at once."""
        with self._lock:
            self._output.write(data)
            self._output.flush()

    def say(self, text: str) -> None:
        """Write a line about the run as a whole."""
        self.write(f"{text}\n".encode(errors="replace"))


class ConsoleLog:
    """The log of one job on the console; an `agent.log.Log`."""

    def __init__(self, console: Console, name: str, *, number: int, width: int) -> None:
        """`width` is that of the longest name; 0: only one job runs, and lines have no name."""
        self._console = console
        self._lock = threading.Lock()
        self._rest = b""
        self._prefix = b""
        if width:
            prefix = f"{name:<{width}} │ "
            if console.colours:
                prefix = f"\033[{_COLOURS[number % len(_COLOURS)]}m{prefix}{_RESET}"
            self._prefix = prefix.encode()
        self._at_line_start = True
        self.ignore_limit = threading.Event()
        self.added = AddedMasks(Masks())
        self._output = StepOutput(self.added)

    def write(self, data: bytes) -> None:
        """Write what steps print, as whole lines if there is a name before them."""
        with self._lock:
            self._write(self._output.feed(data) + self._output.release())

    def end_output(self) -> None:
        """Write what waited, since the output of a step is over."""
        with self._lock:
            self._write(self._output.end())

    def say(self, text: str) -> None:
        """Write a line from the agent itself; it begins on a new line."""
        with self._lock:
            if not self._at_line_start:
                self._write(b"\n")
            if self._console.colours:
                text = "\n".join(f"{_DIM}{line}{_RESET}" for line in text.split("\n"))
            self._write(self.added.masks.mask(f"{text}\n".encode(errors="replace")))

    def close(self) -> None:
        """End the last line."""
        with self._lock:
            if not self._at_line_start:
                self._write(b"\n")

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self._at_line_start = data.endswith(b"\n")
        if not self._prefix:
            self._console.write(data)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self._console.write(b"".join(self._prefix + line + b"\n" for line in lines))
