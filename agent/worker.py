"""The agent at work: the attempts in its hands, its slots, and how it ends."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from contextlib import suppress
from typing import Any, Optional

from agent.attempt import ABANDON, STOP, Attempt
from agent.client import Client, Refused, Unreachable
from agent.delivery import deliver
from agent.errors import AgentError, RefusedByControlPlane
from agent.heartbeat import Heartbeat
from agent.job import Surroundings, run_job
from agent.metrics import Metrics
from agent.protocol import Assignment, ControlPlane, HeartbeatAnswer
from agent.spool import SpooledAttempt
from agent.state import StateDirectory

logger = logging.getLogger(__name__)

# How long a stopped agent tries to deliver what it has; the rest is delivered by its next start.
_LAST_WORDS_SECONDS = 10.0


class Agent:
    """Takes jobs as the heartbeats bring them and runs each in a thread of its own."""

    def __init__(
        self, *, client: Client, plane: ControlPlane, around: Surroundings, state: StateDirectory, slots: Optional[int]
    ) -> None:
        """`slots` is how many jobs may run at once, None for what the control plane says."""
        self._client = client
        self._plane = plane
        self._around = around
        self._state = state
        self._fixed_slots = slots
        self._slots = slots or 1
        self._metrics = Metrics(around.work_dir)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._attempts: dict[Assignment, Attempt] = {}
        self._completed = 0
        self._config_version: Optional[int] = None
        self._draining = False
        self._failure: Optional[AgentError] = None
        self._heartbeat = Heartbeat(plane, path=state.heartbeat, report=self._report, heard=self._heard)
        self._news, self._tell = os.pipe()
        os.set_blocking(self._news, False)
        os.set_blocking(self._tell, False)

    def run(self) -> None:
        """Work until a signal ends it: the first lets the jobs finish, the second stops them, the third ends at once.

        Must be called in the main thread. Raises AgentError when the agent cannot go on.
        """
        for spooled in self._around.spool.recover():
            self._redeliver(spooled)
        heartbeat = threading.Thread(target=self._heartbeat_loop, name="heartbeat", daemon=True)
        self._listen_to_signals()
        heartbeat.start()
        signals = 0
        stopped_at: Optional[float] = None
        while not self._is_over(signals):
            select.select([self._news], [], [], 0.5)
            for _ in range(self._signals_heard()):
                signals += 1
                stopped_at = self._signalled(signals) or stopped_at
            if stopped_at is not None and time.monotonic() > stopped_at + _LAST_WORDS_SECONDS:
                logger.warning("the control plane is away; what it has not got is kept for the next start")
                break
        self._end()
        heartbeat.join(1.0)
        if self._failure is not None:
            raise self._failure

    def _is_over(self, signals: int) -> bool:
        with self._lock:
            return self._failure is not None or (signals > 0 and not self._attempts)

    # Signals

    def _listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def _signals_heard(self) -> int:
        """How many signals to end have come; a zero byte only wakes the loop."""
        try:
            heard = os.read(self._news, 256)
        except BlockingIOError:
            return 0
        return sum(number in (signal.SIGTERM, signal.SIGINT) for number in heard)

    def _signalled(self, count: int) -> Optional[float]:
        """Act on the count-th signal; returns the moment from which on the last words are due."""
        if count == 1:
            with self._lock:
                self._draining = True
                left = len(self._attempts)
            logger.info("taking no more jobs; leaving when %d are finished. Another signal stops them", left)
            self._heartbeat.soon()
            return None
        if count == 2:
            logger.info("stopping the jobs")
            for attempt in self._in_hand():
                attempt.want(STOP)
            return time.monotonic() + self._around.launcher.grace
        logger.warning("leaving at once")
        # The guards see that this process is gone and kill what it has started.
        os._exit(1)

    def _end(self) -> None:
        """Let go of everything that still runs, without a word to the control plane."""
        self._heartbeat.stop()
        for attempt in self._in_hand():
            attempt.mute()

    # Heartbeats

    def _heartbeat_loop(self) -> None:
        try:
            self._heartbeat.run()
        except Refused as error:
            self._failure = RefusedByControlPlane(
                f"The control plane does not want this agent any more: {error} "
                f"(to enrol the machine anew, remove {self._state.identity} and give a new token)"
            )
        except Exception as error:
            logger.exception("the heartbeat failed")
            self._failure = AgentError(f"The heartbeat failed: {error}")
        self._wake_up()

    def _report(self) -> dict[str, Any]:
        with self._lock:
            attempts = list(self._attempts.values())
            free = 0 if self._draining else max(0, self._slots - len(attempts))
        return {
            **self._metrics.read(),
            "jobs_queued": sum(not attempt.started for attempt in attempts),
            "jobs_completed": self._completed,
            "uptime_seconds": int(time.monotonic() - self._began),
            "free_slots": free,
            "running": [attempt.heartbeat() for attempt in attempts],
            "config_version": self._config_version,
        }

    def _heard(self, answer: HeartbeatAnswer) -> None:
        for command in answer.commands:
            with self._lock:
                wanted = self._attempts.get(command.assignment)
            if wanted is not None:
                logger.info("%s: the control plane commands to %s it", command.assignment, command.command)
                wanted.want(command.command)
        for job in answer.jobs:
            self._accept(job)
        if answer.config_version != self._config_version:
            self._configure()

    def _configure(self) -> None:
        """Fetch the configuration: slots, and perhaps a new key, which is kept before it is used."""
        try:
            configuration = self._plane.configuration()
        except Unreachable as error:
            logger.warning("configuration: %s; asking again after the next heartbeat", error)
            return
        if configuration.identity is not None:
            configuration.identity.save(self._state.identity)
            self._client.identity = configuration.identity
            logger.info("using the new key %s", configuration.identity.key_id)
        self._slots = self._fixed_slots or configuration.slots or 1
        self._config_version = configuration.version

    # Jobs

    def _in_hand(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.values())

    def _accept(self, job: Assignment) -> None:
        with self._lock:
            if job in self._attempts or self._draining or len(self._attempts) >= self._slots:
                return
            attempt = self._attempts[job] = Attempt(job, self._heartbeat.soon)
        self._begin(attempt)

    def _begin(self, attempt: Attempt) -> None:
        threading.Thread(target=self._work, args=(attempt,), name=str(attempt.job), daemon=True).start()

    def _work(self, attempt: Attempt) -> None:
        following: Optional[Assignment] = None
        try:
            following = run_job(self._around, attempt, self._wants_more)
        except Exception:
            logger.exception("%s failed for a reason of the agent's own", attempt.job)
        self._let_go(attempt, following)

    def _wants_more(self) -> bool:
        return not self._draining

    def _let_go(self, attempt: Attempt, following: Optional[Assignment]) -> None:
        """The slot is free, or goes to the next job at once."""
        with self._lock:
            del self._attempts[attempt.job]
            self._completed += attempt.order != ABANDON
            successor = None
            if following is not None and not self._draining and following not in self._attempts:
                successor = self._attempts[following] = Attempt(following, self._heartbeat.soon)
        if successor is not None:
            self._begin(successor)
        self._heartbeat.soon()
        self._wake_up()

    def _redeliver(self, spooled: SpooledAttempt) -> None:
        """Bring the result of an attempt that an earlier run of this agent finished. It holds a slot until then."""
        attempt = Attempt(spooled.job, self._heartbeat.soon)
        attempt.started = True
        attempt.set_steps(spooled.read_report()["steps"])
        with self._lock:
            self._attempts[spooled.job] = attempt

        def bring() -> None:
            logger.info("%s: delivering its result, which an earlier run of this agent left", attempt.job)
            following = deliver(self._plane, attempt, spooled, spooled.sequences(), self._wants_more)
            if attempt.order == ABANDON:
                spooled.remove()
            self._let_go(attempt, following)

        threading.Thread(target=bring, name=f"delivery of {attempt.job}", daemon=True).start()

    def _wake_up(self) -> None:
        # A full pipe means that the main thread has enough to wake up for.
        with suppress(BlockingIOError):
            os.write(self._tell, b"\0")
