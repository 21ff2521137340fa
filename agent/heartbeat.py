"""The agent's regular word to the control plane, and what it hears in return."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import clock
from agent.client import Backoff, Refused, Unreachable
from agent.files import write_private
from agent.protocol import ControlPlane, HeartbeatAnswer

logger = logging.getLogger(__name__)

BUSY_SECONDS = 10.0
# Two heartbeats are never closer than this, so that `created`, which counts seconds, does not run ahead of the clock.
APART_SECONDS = 1.0
_IDLE_RANGE_SECONDS = (1.0, 300.0)
# No control plane takes a request from further in the future than this.
_WINDOW_SECONDS = 300


class Heartbeat:
    """Heartbeats until it is told to stop, in the thread that calls `run`."""

    def __init__(
        self,
        plane: ControlPlane,
        *,
        path: Path,
        report: Callable[[], dict[str, Any]],
        heard: Callable[[HeartbeatAnswer], None],
    ) -> None:
        """`path` keeps the time of the last heartbeat; `report` says what to tell, `heard` is told the answers."""
        self._plane = plane
        self._path = path
        self._report = report
        self._heard = heard
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._backoff = Backoff(limit=BUSY_SECONDS)
        self._last_created = self._read_last()

    def soon(self) -> None:
        """Something has changed that the control plane should know now."""
        self._wake.set()

    def stop(self) -> None:
        """No further heartbeat; `run` returns."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Heartbeat. Raises Refused when the control plane does not want this agent any more."""
        while not self._stopped.is_set():
            self._wake.clear()
            pause, impatient = self._heartbeat()
            least = APART_SECONDS if impatient else pause
            self._stopped.wait(least)
            self._wake.wait(max(0.0, pause - least))

    def _heartbeat(self) -> tuple[float, bool]:
        """One heartbeat; returns the seconds until the next, and whether news may bring that forward."""
        report = self._report()
        try:
            answer = self._plane.heartbeat(report, created=self._next_created())
        except Unreachable as error:
            pause = self._backoff.pause(error.retry_after)
            logger.warning("heartbeat: %s; trying again in %.1f s", error, pause)
            return pause, False
        except Refused as error:
            if error.status != 409:
                raise
            # An earlier start of this agent had a clock that was ahead of this one's. Time heals that.
            logger.warning("heartbeat: %s", error)
            return self._backoff.pause(None), False
        self._backoff.reset()
        low, high = _IDLE_RANGE_SECONDS
        interval = min(max(answer.next_check_interval, low), high)
        self._heard(answer)
        return BUSY_SECONDS if report["running"] or answer.jobs else interval, True

    def _next_created(self) -> int:
        """A time later than every one before, also those of earlier starts."""
        now = clock.epoch()
        last = self._last_created if self._last_created <= now + _WINDOW_SECONDS else 0
        self._last_created = max(now, last + 1)
        write_private(self._path, json.dumps({"created": self._last_created}).encode(), durable=False)
        return self._last_created

    def _read_last(self) -> int:
        try:
            return int(json.loads(self._path.read_bytes())["created"])
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return 0
