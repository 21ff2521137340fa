"""One attempt of a job in this agent's hands: what other threads may know of it and want of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Optional

from agent.protocol import Assignment

# What may be wanted of an attempt, the stronger later: the user cancels it, the agent ends, it is not ours any more.
CANCEL, STOP, ABANDON = "cancel", "stop", "abandon"
_ORDERS = (None, CANCEL, STOP, ABANDON)


class Attempt:
    """Shared by the thread that runs the job, the one that delivers its log, and the heartbeat."""

    def __init__(self, job: Assignment, changed: Callable[[], None]) -> None:
        """`changed` is called when the states of its steps have changed."""
        self.job = job
        self._changed = changed
        self._lock = threading.Lock()
        self._order: Optional[str] = None
        self._steps: list[dict[str, Any]] = []
        self.started = False
        # Set when there is something new to look at: an order, or the end of a command.
        self.wake = threading.Event()
        # Set when the agent ends: what has not begun shall not begin.
        self.leaving = threading.Event()
        # Set when nothing more shall be sent about it.
        self.muted = threading.Event()

    @property
    def order(self) -> Optional[str]:
        """The strongest command so far."""
        with self._lock:
            return self._order

    def want(self, order: str) -> None:
        """Ask for it to end. A weaker command than one before changes nothing, nor does one that is not known here."""
        with self._lock:
            if order not in _ORDERS or _ORDERS.index(order) <= _ORDERS.index(self._order):
                return
            self._order = order
        if order != CANCEL:
            self.leaving.set()
        if order == ABANDON:
            self.muted.set()
        self.wake.set()

    def mute(self) -> None:
        """Send nothing more about it in this life."""
        self.leaving.set()
        self.muted.set()
        self.wake.set()

    def set_steps(self, steps: list[dict[str, Any]]) -> None:
        """The states of its steps, as heartbeats tell them."""
        with self._lock:
            self._steps = [dict(step) for step in steps]
        self._changed()

    def heartbeat(self) -> dict[str, Any]:
        """What a heartbeat says of it."""
        with self._lock:
            steps = [dict(step) for step in self._steps]
        return {"job_id": self.job.job_id, "attempt": self.job.attempt, "steps": steps}
