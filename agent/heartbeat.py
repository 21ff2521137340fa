"""The agent's heartbeats: regular reports to the control plane, whose answers bring jobs and cancel requests."""

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

# The time between two heartbeats while jobs run, and the longest pause after a failure.
BUSY_SECONDS = 10.0
# The shortest time between two heartbeats. `created` counts seconds, so more of them would run ahead of the clock.
APART_SECONDS = 1.0
# The shortest and the longest time between two heartbeats of an idle agent.
_IDLE_RANGE_SECONDS = (1.0, 300.0)
# The control plane refuses a request whose `created` is further in the future than this.
_CLOCK_TOLERANCE_SECONDS = 300


class Heartbeat:
    """Sends heartbeats in the thread that calls `run`, until `stop` is called."""

    def __init__(
        self,
        plane: ControlPlane,
        *,
        path: Path,
        report: Callable[[], dict[str, Any]],
        on_answer: Callable[[HeartbeatAnswer], None],
    ) -> None:
        """`path` keeps the time of the last heartbeat, `report` returns the next body, `on_answer` gets each answer."""
        self._plane = plane
        self._path = path
        self._report = report
        self._on_answer = on_answer
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._backoff = Backoff(limit=BUSY_SECONDS)
        self._last_created = self._read_last()

    def send_soon(self) -> None:
        """Send the next heartbeat early, since its report has changed."""
        self._wake.set()

    def stop(self) -> None:
        """Send no further heartbeat, and make `run` return."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Send heartbeats until `stop` is called. Raises Refused if the control plane refuses this agent."""
        while not self._stopped.is_set():
            self._wake.clear()
            pause, may_be_early = self._send()
            shortest = APART_SECONDS if may_be_early else pause
            self._stopped.wait(shortest)
            self._wake.wait(max(0.0, pause - shortest))

    def _send(self) -> tuple[float, bool]:
        """Send one heartbeat. Returns the seconds until the next one, and whether `send_soon` may shorten them."""
        report = self._report()
        try:
            answer = self._plane.heartbeat(report, created=self._next_created())
        except Unreachable as error:
            pause = self._backoff.pause(error.retry_after)
            logger.warning("a heartbeat failed: %s; the agent tries again in %.1f s", error, pause)
            return pause, False
        except Refused as error:
            if error.status != 409:
                raise
            # An earlier start of this agent sent a later time: this machine's clock went back, and catches up.
            pause = self._backoff.pause(None)
            logger.warning(
                "the control plane refused a heartbeat (%s): check the clock; the agent tries again in %.1f s",
                error,
                pause,
            )
            return pause, False
        self._backoff.reset()
        low, high = _IDLE_RANGE_SECONDS
        interval = min(max(answer.next_check_interval, low), high)
        self._on_answer(answer)
        return BUSY_SECONDS if report["running"] or answer.jobs else interval, True

    def _next_created(self) -> int:
        """A time in seconds since 1970 that is later than those of all heartbeats before, earlier starts included."""
        now = clock.epoch()
        last = self._last_created if self._last_created <= now + _CLOCK_TOLERANCE_SECONDS else 0
        self._last_created = max(now, last + 1)
        write_private(self._path, json.dumps({"created": self._last_created}).encode(), durable=False)
        return self._last_created

    def _read_last(self) -> int:
        try:
            return int(json.loads(self._path.read_bytes())["created"])
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return 0
