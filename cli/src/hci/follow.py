"""Follows logs and runs to their end, by the API's offsets: nothing is printed twice, and nothing is left out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Callable

from hci import endpoints, output
from hci.client import Client, Json, members, text
from hci.text import LogText, plain
from hci.times import moment

# Statuses in which a job or run stays.
ENDED = frozenset(["completed", "failed", "cancelled", "timed_out", "skipped"])
# While a user follows, a control plane that is being updated may be gone for some minutes.
FOLLOW_PATIENCE = 300.0
# How long to wait between two requests, in seconds: at first, and at most while nothing happens.
_SHORTEST, _LONGEST = 0.4, 2.0
# If a job has ended and its log does not, its last part was lost with its agent.
_LOST_AFTER = 30.0
# The job that reads the pipeline file of a run.
_FILE_JOB = "pipeline"


@dataclass
class Pace:
    """Waits between requests, longer while nothing happens."""

    sleep: Callable[[float], None] = time.sleep
    wait: float = _SHORTEST

    def next(self, *, happened: bool, requests: int = 1) -> None:
        self.wait = _SHORTEST if happened else min(self.wait * 1.3, _LONGEST)
        # A run of many jobs must not use up the token's calls.
        self.sleep(max(self.wait, 0.05 * requests))


@dataclass
class LogReader:
    """Where one is in the log of a job, or of one attempt or step of it."""

    client: Client
    job_id: str
    attempt: int | None = None
    step: int | None = None
    tail: int | None = None
    timestamps: bool = False
    offset: int = 0
    complete: bool = False

    def read(self) -> bytes:
        """The next part, which may be empty; `complete` says whether it is the last one."""
        first_tail = self.tail if self.offset == 0 else None
        query: dict[str, Any] = {"attempt": self.attempt, "step": self.step, "timestamps": self.timestamps or None}
        query.update({"tail": first_tail} if first_tail else {"offset": self.offset})
        answer = self.client.call(endpoints.JOB_LOG, job_id=self.job_id, query=query)
        following = answer.number("X-Next-Offset")
        self.complete = answer.headers.get("X-Log-Complete") == "true"
        if following > self.offset:
            self.offset = following
            self.tail = None
            return answer.content
        return b""


@dataclass
class TimeFilter:
    """Takes the times off the lines of a log, and leaves out lines from before `since`."""

    since: datetime | None
    keep_times: bool
    _passes: bool = False
    _half: bytes = b""

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        *lines, self._half = (self._half + data).split(b"\n")
        if last and self._half:
            lines.append(self._half)
        return b"".join(kept + b"\n" for kept in (self._line(one) for one in lines) if kept is not None)

    def _line(self, line: bytes) -> bytes | None:
        stamp, _, content = line.partition(b" ")
        printed = moment(stamp.decode("ascii", "replace"))
        if printed is not None:
            self._passes = self.since is None or printed >= self.since
        # A line without a time is as old as the one before it.
        if not (self._passes or self.since is None):
            return None
        return line if self.keep_times else content


def log_parts(reader: LogReader, *, follow: bool, pace: Pace, on_idle: Callable[[], bool]) -> Iterator[bytes]:
    """The parts of a log, to its end with `follow`, else as far as it is now.

    `on_idle` is called when nothing new is there; True ends the log.
    """
    while True:
        part = reader.read()
        if part:
            yield part
        if reader.complete:
            return
        if not part:
            if not follow or on_idle():
                return
            pace.next(happened=False)
        elif follow:
            pace.wait = _SHORTEST


@dataclass
class JobWatch:
    """Says on standard error what a job waits for, and notices that it has ended without the end of its log."""

    client: Client
    job_id: str
    notice: Callable[[object], None]
    clock: Callable[[], float] = time.monotonic
    _asked: float = 0.0
    _said: str = ""
    _ended_since: float | None = None

    def idle(self) -> bool:
        now = self.clock()
        if self._asked and now - self._asked < 3:
            return False
        self._asked = now
        job = self.client.json(endpoints.JOB, job_id=self.job_id)
        self._say(job)
        if job.get("status") not in ENDED:
            return False
        if self._ended_since is None:
            self._ended_since = now
        return now - self._ended_since >= _LOST_AFTER

    def _say(self, job: Json) -> None:
        waiting = job.get("waiting")
        said = plain(waiting.get("message")) if isinstance(waiting, dict) else ""
        if said and said != self._said:
            self._said = said
            self.notice(said)


def job_exit_code(job: Json) -> int:
    """With what to end: the job's own exit code, or 1 if it failed without one."""
    if job.get("status") == "completed":
        return 0
    code = job.get("exit_code")
    return code if isinstance(code, int) and 0 < code < 256 else 1


def job_end(job: Json) -> str:
    """How the job ended, as a sentence."""
    status, message = plain(job.get("status")), plain(job.get("error_message"))
    code = f" with exit code {job['exit_code']}" if job.get("exit_code") else ""
    if message.startswith("The job ") and not code:
        # It is the whole sentence.
        return message
    was = "was " if status in ("cancelled", "skipped") else ""
    why = f": {message}" if message else "."
    return f"The job {was}{status.replace('_', ' ')}{code}{why}"


@dataclass
class _Followed:
    """One job of a run that is followed."""

    reader: LogReader
    shown: LogText
    status: str = ""
    half: str = ""
    ended_at: float | None = None


@dataclass
class RunWatch:
    """Prints the logs of a run's jobs as they grow, each line with its job's name if there are several."""

    client: Client
    run_id: str
    colour: bool
    notice: Callable[[object], None]
    logs: bool = True
    pace: Pace = field(default_factory=Pace)
    clock: Callable[[], float] = time.monotonic
    _jobs: dict[str, _Followed] = field(default_factory=dict)

    def follow(self) -> Json:
        """Stay until the run has ended and its logs are printed. Returns the run."""
        while True:
            run = self.client.json(endpoints.RUN, run_id=self.run_id)
            jobs = members(run, "jobs")
            several = len(jobs) > 1
            happened = False
            reading = 0
            for job in jobs:
                happened |= self._status(job, several=several)
                if self.logs and self._is_read(job, several=several):
                    reading += 1
                    happened |= self._log(job, several=several)
            if run.get("status") in ENDED and not reading:
                return run
            self.pace.next(happened=happened, requests=1 + reading)

    def _followed(self, job: Json) -> _Followed:
        job_id = text(job, "job_id")
        if job_id not in self._jobs:
            self._jobs[job_id] = _Followed(LogReader(self.client, job_id), LogText(colour=self.colour))
        return self._jobs[job_id]

    def _status(self, job: Json, *, several: bool) -> bool:
        """Say that the job has another status. Returns whether it has."""
        followed, status = self._followed(job), plain(job.get("status"))
        if status == followed.status:
            return False
        followed.status = status
        if status in ENDED and followed.ended_at is None:
            followed.ended_at = self.clock()
        where = f" on {plain(job['agent_name'])}" if status == "running" and job.get("agent_name") else ""
        why = job.get("error_message") or job.get("reason")
        waiting = job.get("waiting")
        if isinstance(waiting, dict):
            why = waiting.get("message")
        reused = ", with the result of an earlier job" if job.get("reused_from") else ""
        name = f"{plain(job.get('name'))}: " if several else ""
        self.notice(f"{name}{status.replace('_', ' ')}{where}{reused}" + (f": {plain(why)}" if why else ""))
        return True

    def _is_read(self, job: Json, *, several: bool) -> bool:
        """Whether the job has, or may get, more lines to print."""
        followed, status = self._followed(job), job.get("status")
        if followed.reader.complete or job.get("reused_from") or status in ("waiting", "queued", "assigned", "skipped"):
            return False
        if several and job.get("name") == _FILE_JOB and status != "failed":
            return False
        return followed.ended_at is None or self.clock() - followed.ended_at < _LOST_AFTER

    def _log(self, job: Json, *, several: bool) -> bool:
        followed = self._followed(job)
        part = followed.reader.read()
        shown = followed.shown.feed(part, last=followed.reader.complete)
        if not several:
            output.write(shown)
            return bool(part)
        *lines, followed.half = (followed.half + shown).split("\n")
        if followed.reader.complete and followed.half:
            lines, followed.half = [*lines, followed.half], ""
        reset = "\x1b[0m" if self.colour else ""
        output.write("".join(f"{plain(job.get('name'))} | {line}{reset}\n" for line in lines))
        return bool(part)
