"""One attempt of a job on this agent: its state, and requests to end it early. All threads of the agent share it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Optional

from agent.job_secrets import AttemptKey
from agent.protocol import Assignment

# Why an attempt must end early, the weakest reason first: the user cancels the job; the agent stops; the control plane
# took the attempt away from this agent.
CANCEL, STOP, ABANDON = "cancel", "stop", "abandon"
_END_REASONS = (None, CANCEL, STOP, ABANDON)


class Attempt:
    """Shared by the thread that runs the job, the thread that delivers its log, and the heartbeat."""

    def __init__(self, job: Assignment, steps_changed: Callable[[], None]) -> None:
        """`steps_changed` is called when the states of the steps have changed."""
        self.job = job
        self._steps_changed = steps_changed
        self._lock = threading.Lock()
        self._end_reason: Optional[str] = None
        self._steps: list[dict[str, Any]] = []
        # To which the control plane encrypts the secrets of the attempt.
        self.key = AttemptKey()
        self.started = False
        # The failure of this machine that ended the attempt, if one did.
        self.agent_fault: Optional[str] = None
        # That is not about the machine: its configuration does not allow the job.
        self.is_declined = False
        # Set when the thread that runs the job must look again: a request to end came, or a command ended.
        self.wake = threading.Event()
        # Set when the agent must begin nothing more for this attempt.
        self.ending = threading.Event()
        # Set when the agent must send nothing more about this attempt.
        self.muted = threading.Event()

    @property
    def end_reason(self) -> Optional[str]:
        """The strongest reason to end early so far: CANCEL, STOP or ABANDON, or None."""
        with self._lock:
            return self._end_reason

    def request_end(self, reason: str) -> None:
        """Ask the attempt to end early. A weaker reason than the current one and an unknown reason change nothing."""
        with self._lock:
            if reason not in _END_REASONS or _END_REASONS.index(reason) <= _END_REASONS.index(self._end_reason):
                return
            self._end_reason = reason
        if reason != CANCEL:
            self.ending.set()
        if reason == ABANDON:
            self.muted.set()
        self.wake.set()

    def mute(self) -> None:
        """Send nothing more about the attempt while this process lives. The spool keeps the rest."""
        self.ending.set()
        self.muted.set()
        self.wake.set()

    def set_steps(self, steps: list[dict[str, Any]]) -> None:
        """Record the states of the steps, as the next heartbeat reports them."""
        with self._lock:
            self._steps = [dict(step) for step in steps]
        self._steps_changed()

    def heartbeat_entry(self) -> dict[str, Any]:
        """The attempt's entry in the `running` list of a heartbeat."""
        with self._lock:
            steps = [dict(step) for step in self._steps]
        return {"job_id": self.job.job_id, "attempt": self.job.attempt, "steps": steps}
