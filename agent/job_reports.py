"""Report test results and coverage that the steps of an attempt have written to its workspace.

A job never fails for its reports: what cannot be reported is named in its log.
"""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from agent.attempt import Attempt
from agent.client import GivenUp, Refused
from agent.job_context import JobContext
from agent.job_folder import JobFolder
from agent.log_stream import LogStream
from agent.log_text import one_line
from agent.reports import ReportAnswer, ReportFile, Reports
from agent.workspace_files import READ_BYTES, Entry, FilesUnusable, Patterns, opened

# What the control plane takes of one attempt, and of one file before and after compression.
MAX_FILES = 300
MAX_BYTES = 20_000_000
MAX_PACKED_BYTES = 4_000_000

JUNIT, COBERTURA = "junit", "cobertura"
# A refusal with one of these codes is about the one report.
_ABOUT_REPORT = frozenset({"invalid_input", "report_conflict", "report_invalid", "report_too_large", "too_large"})
# At most so many files that are not reported have a line of their own in the log.
_MAX_LINES = 20


class JobReports:
    """Sends the reports of one attempt. What it has sent and what not goes to the log of the job."""

    def __init__(self, context: JobContext, attempt: Attempt, stream: LogStream, folder: JobFolder) -> None:
        self._context = context
        self._attempt = attempt
        self._stream = stream
        self._folder = folder
        self._problems = 0
        self._sent = 0

    def send(self, reports: Reports, *, commit: str) -> None:
        """Find the files and send them, until there are too many or a request to end the attempt comes."""
        # Nothing here may change how the job ends, not even a full disk, which the log meets first.
        with suppress(OSError):
            self._send_tests(reports, commit)
            self._send_coverage(reports, commit)
            if self._problems > _MAX_LINES:
                self._stream.say(f"── {self._problems - _MAX_LINES} more files are not reported")

    def _send_tests(self, reports: Reports, commit: str) -> None:
        if not reports.junit:
            return
        answers = list(self._answers(JUNIT, list(reports.junit), commit, most=MAX_FILES - 1))
        if answers:
            total, failed, skipped = (
                sum(getattr(answer, name) for answer in answers) for name in ("total", "failed", "skipped")
            )
            files = "1 file" if len(answers) == 1 else f"{len(answers)} files"
            self._stream.say(f"── tests: {total} in {files}, {failed} failed, {skipped} skipped")

    def _send_coverage(self, reports: Reports, commit: str) -> None:
        if reports.coverage is None:
            return
        for answer in self._answers(COBERTURA, [reports.coverage], commit, most=1):
            if answer.coverage is not None:
                self._stream.say(f"── coverage: {answer.coverage:.1%} of the lines")

    def _answers(self, kind: str, patterns: list[str], commit: str, *, most: int) -> Iterator[ReportAnswer]:
        """The control plane's answers to the files that the patterns match."""
        count = 0
        try:
            found = Patterns(patterns)
            for entry in found.walk(self._folder.workspace, self._check):
                if stat.S_ISLNK(entry.found.st_mode):
                    self._refuse(entry.path, "it is a link, which the agent does not follow")
                if not stat.S_ISREG(entry.found.st_mode):
                    continue
                if count == most:
                    self._stream.say(
                        f"── more than {most} files match {_listed(patterns)}; the others are not reported"
                    )
                    return
                count += 1
                answer = self._answer(kind, entry, commit)
                if answer is not None:
                    yield answer
            for pattern in found.unused():
                self._stream.say(f"── no file matches {one_line(pattern)}, which the job names under reports")
        except _Over:
            return
        except (FilesUnusable, OSError) as error:
            self._refuse(_listed(patterns), str(error))

    def _answer(self, kind: str, entry: Entry, commit: str) -> ReportAnswer | None:
        try:
            masks = self._stream.added.masks
            packed = gzip.compress(masks.mask(self._read(entry)), compresslevel=6, mtime=0)
            if len(packed) > MAX_PACKED_BYTES:
                raise FilesUnusable(f"it has more than {MAX_PACKED_BYTES:,} bytes after compression")
            number, self._sent = self._sent, self._sent + 1
            report = ReportFile(kind, masks.mask_text(entry.path), packed, commit)
            return self._context.plane.report(self._attempt.job, number, report, stop=self._attempt.ending)
        except GivenUp:
            raise _Over from None
        except Refused as error:
            if error.code not in _ABOUT_REPORT:
                # The attempt is over. Its log meets the same refusal, which ends it.
                raise _Over from None
            self._refuse(entry.path, error.detail)
        except (FilesUnusable, OSError) as error:
            self._refuse(entry.path, str(error))
        return None

    def _read(self, entry: Entry) -> bytes:
        owner = self._folder.owner
        with opened(entry, os.geteuid() if owner is None else owner.uid) as descriptor:
            data = bytearray()
            while len(data) <= MAX_BYTES:
                part = os.read(descriptor, READ_BYTES)
                if not part:
                    return bytes(data)
                data += part
        raise FilesUnusable(f"it has more than {MAX_BYTES:,} bytes")

    def _refuse(self, what: str, why: str) -> None:
        self._problems += 1
        if self._problems <= _MAX_LINES:
            self._stream.say(f"── {one_line(what)} is not reported: {one_line(why)}")

    def _check(self) -> None:
        if self._attempt.end_reason is not None:
            raise _Over


class _Over(Exception):
    """The attempt ends: nothing more is reported."""


def _listed(patterns: list[str]) -> str:
    return one_line(", ".join(patterns))
