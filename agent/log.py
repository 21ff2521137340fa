"""Where the output of a job goes: its log on an agent, or the terminal."""

from __future__ import annotations

import threading
from typing import Protocol

from agent.added_masks import AddedMasks


class Log(Protocol):
    """Takes output from any thread. `ignore_limit` is set when output must no longer wait for room.

    The values of `added` and of its masks are not shown.
    """

    ignore_limit: threading.Event
    added: AddedMasks

    def write(self, data: bytes) -> None:
        """Add output."""

    def end_output(self) -> None:
        """The output of a step is over: what waits to be masked waits no longer."""

    def say(self, text: str) -> None:
        """Add a line from the agent itself; it begins on a new line."""
