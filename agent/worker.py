"""The agent's main loop: its attempts, its slots, its signals and its end."""

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
from agent.job import JobContext, run_job
from agent.metrics import Metrics
from agent.protocol import Assignment, ControlPlane, HeartbeatAnswer
from agent.spool import SpooledAttempt
from agent.state import StateDirectory

logger = logging.getLogger(__name__)

# How long a stopped agent tries to deliver logs and results. Its next start delivers the rest.
_FINAL_DELIVERY_SECONDS = 10.0


class Agent:
    """Takes the jobs that heartbeats bring, and runs each in its own thread."""

    def __init__(
        self, *, client: Client, plane: ControlPlane, context: JobContext, state: StateDirectory, slots: Optional[int]
    ) -> None:
        """`slots` is how many jobs may run at once; if it is None, the control plane decides."""
        self._client = client
        self._plane = plane
        self._context = context
        self._state = state
        self._fixed_slots = slots
        self._slots = slots or 1
        self._metrics = Metrics(context.work_dir)
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._attempts: dict[Assignment, Attempt] = {}
        self._completed = 0
        self._config_version: Optional[int] = None
        self._draining = False
        self._failure: Optional[AgentError] = None
        self._heartbeat = Heartbeat(plane, path=state.heartbeat, report=self._report, on_answer=self._handle_answer)
        # Signals and other threads write to this pipe to wake the main thread.
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Run jobs until a signal ends the agent.

        The first SIGTERM or SIGINT lets the jobs finish, the second stops them, the third ends the process at once.
        Must be called in the main thread. Raises AgentError if the agent cannot go on.
        """
        for spooled in self._context.spool.recover():
            self._redeliver(spooled)
        heartbeat = threading.Thread(target=self._heartbeat_loop, name="heartbeat", daemon=True)
        self._install_signal_handlers()
        heartbeat.start()
        signals = 0
        stopped_at: Optional[float] = None
        while not self._is_over(signals):
            select.select([self._wake_read], [], [], 0.5)
            for _ in range(self._signals_received()):
                signals += 1
                stopped_at = self._handle_signal(signals) or stopped_at
            if stopped_at is not None and time.monotonic() > stopped_at + _FINAL_DELIVERY_SECONDS:
                logger.warning(
                    "the control plane does not answer; the agent exits and delivers the rest at its next start"
                )
                break
        self._stop_sending()
        heartbeat.join(1.0)
        if self._failure is not None:
            raise self._failure

    def _is_over(self, signals: int) -> bool:
        with self._lock:
            return self._failure is not None or (signals > 0 and not self._attempts)

    # Signals

    def _install_signal_handlers(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def _signals_received(self) -> int:
        """How many SIGTERM and SIGINT came since the last call. A zero byte in the pipe only wakes the main thread."""
        try:
            received = os.read(self._wake_read, 256)
        except BlockingIOError:
            return 0
        return sum(number in (signal.SIGTERM, signal.SIGINT) for number in received)

    def _handle_signal(self, count: int) -> Optional[float]:
        """Act on the count-th signal. Returns the moment when all jobs are stopped, or None if they may go on."""
        if count == 1:
            with self._lock:
                self._draining = True
                running = len(self._attempts)
            logger.info(
                "the agent takes no more jobs and exits when its running jobs (%d) end; a second signal stops them",
                running,
            )
            self._heartbeat.send_soon()
            return None
        if count == 2:
            logger.info("the agent stops its running jobs; a third signal makes it exit at once")
            for attempt in self._current_attempts():
                attempt.request_end(STOP)
            return time.monotonic() + self._context.launcher.grace
        logger.warning("the agent exits at once")
        # The guards notice the end of this process and kill their commands.
        os._exit(1)

    def _stop_sending(self) -> None:
        """Send no more heartbeats, logs and results. The spool keeps what is not delivered."""
        self._heartbeat.stop()
        for attempt in self._current_attempts():
            attempt.mute()

    # Heartbeats

    def _heartbeat_loop(self) -> None:
        try:
            self._heartbeat.run()
        except Refused as error:
            self._failure = RefusedByControlPlane(
                f"The control plane refuses this agent ({error}). To enrol the machine again, "
                f"remove {self._state.identity} and start the agent with a new token."
            )
        except Exception as error:
            logger.exception("an unexpected error ended the heartbeats")
            self._failure = AgentError(f"An unexpected error ended the heartbeats ({error}). Start the agent again.")
        self._wake_main_thread()

    def _report(self) -> dict[str, Any]:
        with self._lock:
            attempts = list(self._attempts.values())
            free = 0 if self._draining else max(0, self._slots - len(attempts))
        return {
            **self._metrics.read(),
            "jobs_queued": sum(not attempt.started for attempt in attempts),
            "jobs_completed": self._completed,
            "uptime_seconds": int(time.monotonic() - self._started_at),
            "free_slots": free,
            "running": [attempt.heartbeat_entry() for attempt in attempts],
            "config_version": self._config_version,
        }

    def _handle_answer(self, answer: HeartbeatAnswer) -> None:
        for command in answer.commands:
            with self._lock:
                attempt = self._attempts.get(command.assignment)
            if attempt is not None:
                logger.info("the control plane asks the agent to %s %s", command.command, command.assignment)
                attempt.request_end(command.command)
        for job in answer.jobs:
            self._accept(job)
        if answer.config_version != self._config_version:
            self._configure()

    def _configure(self) -> None:
        """Fetch the configuration: the slots and, after a rotation, a new key, which is saved before it is used."""
        try:
            configuration = self._plane.configuration()
        except Unreachable as error:
            logger.warning(
                "the agent could not fetch its configuration: %s; it tries again after the next heartbeat", error
            )
            return
        if configuration.identity is not None:
            configuration.identity.save(self._state.identity)
            self._client.identity = configuration.identity
            logger.info("the agent signs its requests with the new key %s from now on", configuration.identity.key_id)
        self._slots = self._fixed_slots or configuration.slots or 1
        if self._context.step_users.count:
            # Two jobs never share a user.
            self._slots = min(self._slots, self._context.step_users.count)
        self._config_version = configuration.version

    # Jobs

    def _current_attempts(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.values())

    def _accept(self, job: Assignment) -> None:
        with self._lock:
            if job in self._attempts or self._draining or len(self._attempts) >= self._slots:
                return
            attempt = self._attempts[job] = Attempt(job, self._heartbeat.send_soon)
        self._start_thread(attempt)

    def _start_thread(self, attempt: Attempt) -> None:
        threading.Thread(target=self._work, args=(attempt,), name=str(attempt.job), daemon=True).start()

    def _work(self, attempt: Attempt) -> None:
        following: Optional[Assignment] = None
        try:
            following = run_job(self._context, attempt, self._wants_next)
        except Exception:
            logger.exception("an unexpected error in the agent ended %s", attempt.job)
        self._release_slot(attempt, following)

    def _wants_next(self) -> bool:
        return not self._draining

    def _release_slot(self, attempt: Attempt, following: Optional[Assignment]) -> None:
        """Free the attempt's slot, or give it to the next job at once."""
        with self._lock:
            del self._attempts[attempt.job]
            self._completed += attempt.end_reason != ABANDON
            successor = None
            if following is not None and not self._draining and following not in self._attempts:
                successor = self._attempts[following] = Attempt(following, self._heartbeat.send_soon)
        if successor is not None:
            self._start_thread(successor)
        self._heartbeat.send_soon()
        self._wake_main_thread()

    def _redeliver(self, spooled: SpooledAttempt) -> None:
        """Deliver the result of an attempt that an earlier run of this agent finished. It uses a slot until then."""
        attempt = Attempt(spooled.job, self._heartbeat.send_soon)
        attempt.started = True
        attempt.set_steps(spooled.read_report()["steps"])
        with self._lock:
            self._attempts[spooled.job] = attempt

        def deliver_all() -> None:
            logger.info("the agent delivers the result of %s, which its previous run kept", attempt.job)
            following = deliver(self._plane, attempt, spooled, spooled.sequences(), self._wants_next)
            if attempt.end_reason == ABANDON:
                spooled.remove()
            self._release_slot(attempt, following)

        threading.Thread(target=deliver_all, name=f"delivery of {attempt.job}", daemon=True).start()

    def _wake_main_thread(self) -> None:
        # If the pipe is full, the main thread wakes up anyway.
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")
