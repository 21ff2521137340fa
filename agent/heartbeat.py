"""The agent's heartbeats: regular reports to the control plane, whose answers bring jobs and cancel requests."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from agent import clock
from agent.client import Backoff, MainUnreachable, Refused, Unreachable
from agent.files import write_private
from agent.protocol import ControlPlane, HeartbeatAnswer
from agent.refusals import AGENT_RETIRED, IDENTITY_IN_USE, KEY_UNKNOWN, SIGNATURE_EXPIRED

logger = logging.getLogger(__name__)

# The time between two heartbeats while jobs run, and the longest pause after a failure.
BUSY_SECONDS = 10.0
# The shortest time between two heartbeats. `created` counts seconds, so more of them would run ahead of the clock.
APART_SECONDS = 1.0
# The shortest and the longest time between two heartbeats of an idle agent.
_IDLE_RANGE_SECONDS = (1.0, 300.0)
# The control plane refuses a request whose `created` is further in the future than this.
_CLOCK_TOLERANCE_SECONDS = 300
# For how long, and how often, heartbeats must be refused with one of these codes, and with no other result, until the
# agent ends. A database that is being restored may not know a key, and a machine that restarts looks like a second one.
PATIENCE = {AGENT_RETIRED: (0.0, 1), KEY_UNKNOWN: (300.0, 5), IDENTITY_IN_USE: (120.0, 5)}


class Heartbeat:
    """Sends heartbeats in the thread that calls `run`, until `stop` is called."""

    def __init__(
        self,
        plane: ControlPlane,
        *,
        path: Path,
        report: Callable[[], dict[str, Any]],
        on_answer: Callable[[HeartbeatAnswer], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` keeps the time of the last heartbeat, `report` returns the next body, `on_answer` gets each answer."""
        self._plane = plane
        self._path = path
        self._report = report
        self._on_answer = on_answer
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._backoff = Backoff(limit=BUSY_SECONDS)
        # The time of the last heartbeat that may be recorded, and of the last that was sent.
        self._last_created = self._created = self._read_last()
        self._monotonic = monotonic
        self._idle_limit = _IDLE_RANGE_SECONDS[1]
        # The code of the last refusals of the agent, when they began, and how many they are.
        self._refused_by = ""
        self._refused_since = 0.0
        self._refusals = 0

    def schedule(self, seconds: Optional[float]) -> None:
        """Let an idle agent ask for work this often, and a fifth less often at most; None: as each answer says."""
        low, high = _IDLE_RANGE_SECONDS
        # Answers spread the heartbeats of many agents by a fifth.
        self._idle_limit = high if seconds is None else min(high, max(low, seconds) * 1.2)

    def send_soon(self) -> None:
        """Send the next heartbeat early, since its report has changed."""
        self._wake.set()

    def stop(self) -> None:
        """Send no further heartbeat, and make `run` return."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Send heartbeats until `stop` is called. Raises Refused if the control plane refuses this agent for good."""
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
            answer = self._plane.heartbeat(report, created=self._next_created)
        except MainUnreachable as error:
            self._last_created = self._created
            logger.debug("the main address of the control plane still does not answer: %s", error)
            return 0.0, False
        except Unreachable as error:
            if error.code != SIGNATURE_EXPIRED:
                # The answer may be lost, and the heartbeat recorded.
                self._last_created = self._created
            self._refused_by = ""
            return self._pause(error, error.retry_after), False
        except Refused as error:
            if self._is_final(error.code):
                raise
            return self._pause(error, None), False
        self._last_created = self._created
        self._refused_by = ""
        self._backoff.reset()
        self._on_answer(answer)
        interval = max(_IDLE_RANGE_SECONDS[0], min(self._idle_limit, answer.next_check_interval))
        return BUSY_SECONDS if report["running"] or answer.jobs else interval, True

    def _pause(self, error: Exception, retry_after: Optional[float]) -> float:
        pause = self._backoff.pause(retry_after)
        logger.warning("a heartbeat failed: %s; the agent tries again in %.1f s", error, pause)
        return pause

    def _is_final(self, code: str) -> bool:
        """Whether the refusals with this code have lasted so long that the agent must end."""
        now = self._monotonic()
        if code != self._refused_by:
            self._refused_by, self._refused_since, self._refusals = code, now, 0
        self._refusals += 1
        if code not in PATIENCE:
            return False
        seconds, times = PATIENCE[code]
        return now - self._refused_since >= seconds and self._refusals >= times

    def _next_created(self) -> int:
        """A time in seconds since 1970 that is later than those of all heartbeats before, earlier starts included.

        Heartbeats whose time the control plane refused do not count. When the clock was corrected, theirs may be later.
        """
        now = clock.epoch()
        last = self._last_created if self._last_created <= now + _CLOCK_TOLERANCE_SECONDS else 0
        self._created = max(now, last + 1)
        # On a full disk, the time of the last heartbeat is forgotten when the agent ends.
        with suppress(OSError):
            write_private(self._path, json.dumps({"created": self._created}).encode(), durable=False)
        return self._created

    def _read_last(self) -> int:
        try:
            return int(json.loads(self._path.read_bytes())["created"])
        except (OSError, KeyError, TypeError, ValueError):
            return 0
