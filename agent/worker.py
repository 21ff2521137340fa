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
from agent.delivery import deliver, deliver_interrupted, log_spool_failure
from agent.errors import AgentError, RefusedByControlPlane
from agent.health import Health
from agent.heartbeat import Heartbeat
from agent.job import run_job
from agent.job_context import JobContext
from agent.job_folder import own_program
from agent.machine import boot_id, hostname
from agent.metrics import Metrics
from agent.protocol import Assignment, ControlPlane, HeartbeatAnswer
from agent.refusals import AGENT_RETIRED, KEY_UNKNOWN
from agent.spool import SpooledAttempt
from agent.state import StateDirectory
from agent.summary import running_summary
from agent.trash import Trash
from agent.upload_resume import resumable, upload_resume

logger = logging.getLogger(__name__)

# How long a stopped agent tries to deliver logs and results. Its next start delivers the rest.
_FINAL_DELIVERY_SECONDS = 10.0
# How long an agent that was killed tries to deliver what its attempts had printed, once the control plane answers. For
# so long at most, their jobs wait until they run again.
_INTERRUPTED_DELIVERY_SECONDS = 30.0


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
        self._health = Health(work_dir=context.work_dir, state_dir=state.path, search_path=context.git_env.get("PATH"))
        self._trash = Trash(context.work_dir)
        # Which machine this is. A copy of the identity runs on another one.
        self._machine = {"boot_id": boot_id(), "hostname": hostname()}
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._attempts: dict[Assignment, Attempt] = {}
        self._completed = 0
        self._config_version: Optional[int] = None
        self._draining = False
        self._failure: Optional[AgentError] = None
        # The attempts that an earlier run of the agent did not finish, until a heartbeat is answered.
        self._interrupted: list[Attempt] = []
        self._heartbeat = Heartbeat(plane, path=state.heartbeat, report=self._report, on_answer=self._handle_answer)
        client.addresses.on_doubt = self._heartbeat.send_soon
        # Signals and other threads write to this pipe to wake the main thread.
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Run jobs until a signal ends the agent.

        The first SIGTERM or SIGINT lets the jobs finish, the second stops them, the third ends the process at once.
        Must be called in the main thread. Raises AgentError if the agent cannot go on.
        """
        # Jobs get the program that runs, also after an update has replaced its file.
        with suppress(ModuleNotFoundError, OSError):
            own_program()
        recovered = self._context.spool.recover()
        self._context.archives.recover([spooled.job for spooled in recovered if spooled.has_upload])
        for spooled in recovered:
            self._deliver_recovered(spooled)
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
            self._failure = RefusedByControlPlane(self._farewell(error))
        except Exception as error:
            logger.exception("an unexpected error ended the heartbeats")
            self._failure = AgentError(f"An unexpected error ended the heartbeats ({error}). Start the agent again.")
        self._wake_main_thread()

    def _farewell(self, error: Refused) -> str:
        """What happened and what to do, for a refusal that ends the agent."""
        if error.code == AGENT_RETIRED:
            return (
                f"This agent is retired ({error}). To use the machine again, "
                f"remove {self._state.identity} and start the agent with a new enrolment token."
            )
        if error.code == KEY_UNKNOWN:
            return (
                f"The control plane {self._client.url} has not known this agent's key for minutes ({error}). Check "
                "that this is the address of the control plane that enrolled the agent, and start the agent again. If "
                "the agent is not in its list of agents, enrol the machine with a new token and another --state-dir."
            )
        return f"The control plane refuses this agent: {error.detail}"

    def _report(self) -> dict[str, Any]:
        fault = self._health.check()
        if fault is not None:
            # They may be what fills the disk, and without jobs nothing else looks at them.
            self._context.mirrors.shrink()
        self._trash.clean_soon()
        with self._lock:
            attempts = list(self._attempts.values())
            free = 0 if self._draining or fault else max(0, self._slots - len(attempts))
        return {
            **self._metrics.read(),
            "jobs_queued": sum(not attempt.started for attempt in attempts),
            "jobs_completed": self._completed,
            "uptime_seconds": int(time.monotonic() - self._started_at),
            "free_slots": free,
            "running": running_summary([attempt.heartbeat_entry() for attempt in attempts]),
            "config_version": self._config_version,
            **self._machine,
            "fault": fault,
        }

    def _handle_answer(self, answer: HeartbeatAnswer) -> None:
        while self._interrupted:
            timer = threading.Timer(_INTERRUPTED_DELIVERY_SECONDS, self._interrupted.pop().request_end, [ABANDON])
            timer.daemon = True
            timer.start()
        for command in answer.commands:
            with self._lock:
                attempt = self._attempts.get(command.assignment)
            if attempt is not None:
                logger.info("the control plane asks the agent to %s %s", command.command, command.assignment)
                attempt.request_end(command.command)
        if answer.config_version != self._config_version:
            # First, since it says how many jobs may run and what they may deploy to.
            self._configure()
        for job in answer.jobs:
            self._accept(job)

    def _configure(self) -> None:
        """Fetch the configuration and obey it. After a rotation it has a new key, which is saved before it is used."""
        try:
            configuration = self._plane.configuration()
            if configuration.identity is not None:
                configuration.identity.save(self._state.identity)
        except (Unreachable, Refused, OSError) as error:
            logger.warning(
                "the agent could not fetch and save its configuration: %s; it tries again after the next heartbeat",
                error,
            )
            return
        if configuration.identity is not None:
            self._client.identity = configuration.identity
            logger.info("the agent signs its requests with the new key %s from now on", configuration.identity.key_id)
        self._plane.use(configuration)
        self._heartbeat.schedule(configuration.schedule_interval)
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
        try:
            threading.Thread(target=self._work, args=(attempt,), name=str(attempt.job), daemon=True).start()
        except RuntimeError as error:
            # There are too many processes. The control plane assigns the job again, to another agent.
            self._health.note_failure(str(error))
            with self._lock:
                del self._attempts[attempt.job]

    def _work(self, attempt: Attempt) -> None:
        following: Optional[Assignment] = None
        try:
            following = run_job(self._context, attempt, lambda: self._wants_next(attempt))
        except Exception as error:
            logger.exception("an unexpected error in the agent ended %s", attempt.job)
            attempt.agent_fault = f"an unexpected error in the agent: {error or type(error).__name__}"
        if attempt.is_declined:
            logger.warning("the agent does not run %s: %s", attempt.job, attempt.agent_fault)
        elif attempt.agent_fault is not None:
            self._health.note_failure(attempt.agent_fault)
        elif attempt.end_reason is None:
            self._health.note_success()
        self._release_slot(attempt, following)

    def _wants_next(self, attempt: Attempt) -> bool:
        """Whether the agent takes another job in place of the attempt, which has ended."""
        return not self._draining and attempt.agent_fault is None and self._health.fault is None

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

    def _deliver_recovered(self, spooled: SpooledAttempt) -> None:
        """Deliver what an earlier run of this agent kept of an attempt. It uses a slot until then.

        Until then heartbeats name the attempt, so it is still this agent's. If the earlier run did not finish it, the
        control plane queues its job again after that.
        """
        attempt = Attempt(spooled.job, self._heartbeat.send_soon)
        attempt.started = True
        resumes = resumable(spooled, self._context.archives)
        if spooled.is_finished:
            attempt.set_steps(spooled.read_report()["steps"])
        elif not resumes:
            self._interrupted.append(attempt)
        with self._lock:
            self._attempts[spooled.job] = attempt

        def deliver_all() -> None:
            following = None
            if resumes:
                logger.info("the agent goes on to store the artifacts of %s", attempt.job)
                self._resume_upload(attempt, spooled)
            if spooled.is_finished:
                logger.info("the agent delivers the result of %s, which its previous run kept", attempt.job)
                following = deliver(
                    self._plane, attempt, spooled, spooled.sequences(), lambda: self._wants_next(attempt)
                )
            elif not resumes:
                logger.info("the agent delivers the log of %s, which its previous run did not finish", attempt.job)
                deliver_interrupted(self._plane, attempt, spooled)
            if attempt.end_reason == ABANDON:
                spooled.remove()
            self._release_slot(attempt, following)

        threading.Thread(target=deliver_all, name=f"delivery of {attempt.job}", daemon=True).start()

    def _resume_upload(self, attempt: Attempt, spooled: SpooledAttempt) -> None:
        try:
            upload_resume(self._context, attempt, spooled)
        except OSError as error:
            log_spool_failure(attempt, error)
            attempt.request_end(ABANDON)

    def _wake_main_thread(self) -> None:
        # If the pipe is full, the main thread wakes up anyway.
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")
