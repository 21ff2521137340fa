"""Reading JUnit XML, of which every test runner writes a dialect of its own.

These are known: pytest, Maven Surefire (with its reruns), Gradle, Jest, gotestsum, GoogleTest, and the loggers of .NET.
They agree on ``testcase`` with ``name``, ``classname``, ``time``, and ``failure``, ``error`` or ``skipped`` in it.
"""

import math
from collections.abc import Mapping

from apps.jobs.reports.reading import report_invalid, xml_read
from apps.jobs.reports.results import (
    MAX_DETAILS,
    MAX_FAILURES,
    MAX_MESSAGE,
    MAX_NAME,
    MAX_SECONDS,
    Case,
    Failure,
    Outcome,
    Results,
    Totals,
    lines,
    one_line,
)

_SUITES = ("testsuites", "testsuite")
_FAILED = ("failure", "error")
# Surefire's, of a test that passed when it ran again.
_FLAKY = ("flakyFailure", "flakyError")
# Values of GoogleTest's attributes `status` and `result`.
_NOT_RUN = ("notrun", "skipped", "suppressed", "disabled")
# So many tests are distinguished; of more, the rest is only counted. Names of more would take too much memory.
_MAX_KNOWN = 100_000


def junit_read(data: bytes) -> Results:
    """What the report says. Raises Unprocessable with code ``report_invalid``."""
    document = _Document()
    xml_read(data, document)
    return document.results()


class _Clip:
    """A text of which the beginning and the end are kept: some runners print the cause first, others last."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = self._tail = ""
        self._size = 0

    def add(self, text: str) -> None:
        self._size += len(text)
        room = self._half - len(self._head)
        if room > 0:
            self._head, text = self._head + text[:room], text[room:]
        if text:
            self._tail = (self._tail + text[-self._half :])[-self._half :]

    def text(self) -> str:
        left_out = self._size - len(self._head) - len(self._tail)
        between = f"\n… {left_out:,} characters …\n" if left_out else ""
        return lines(f"{self._head}{between}{self._tail}").strip("\r\n")


class _Test:
    """The test whose element is open."""

    def __init__(self, group: str, attributes: Mapping[str, str], *, is_suite: bool = False) -> None:
        # The suite itself failed, outside of its tests.
        self.is_suite = is_suite
        self.group = one_line(attributes.get("classname") or group, MAX_NAME)
        self.name = one_line(attributes.get("name") or "(no name)", MAX_NAME)
        self.seconds = _seconds(attributes.get("time"))
        is_run = attributes.get("status") not in _NOT_RUN and attributes.get("result") not in _NOT_RUN
        self.outcome = Outcome.PASSED if is_run else Outcome.SKIPPED
        self.message = ""
        self.details = _Clip(MAX_DETAILS)

    def fail(self, attributes: Mapping[str, str]) -> None:
        """A test may have several failures; the first message counts."""
        self.outcome = Outcome.FAILED
        self.message = self.message or _message(attributes)


class _Document:
    def __init__(self) -> None:
        self._suites: list[str] = []
        self._test: _Test | None = None
        # Of the element whose text is about a failure.
        self._failing: int | None = None
        self._total = 0
        self._seconds = 0.0
        self._known: dict[tuple[str, str], tuple[Outcome, float | None]] = {}
        self._uncounted = {Outcome.FAILED: 0, Outcome.SKIPPED: 0, Outcome.FLAKY: 0, Outcome.PASSED: 0}
        self._failures: dict[tuple[str, str], Failure] = {}

    def start(self, tag: str, attributes: dict[str, str], depth: int) -> None:
        if depth == 1 and tag not in _SUITES:
            raise report_invalid(
                f"The report begins with the element {one_line(tag, 50)}. "
                "JUnit XML begins with testsuites or testsuite."
            )
        if tag in _SUITES:
            self._suites.append(attributes.get("name", ""))
        elif tag == "testcase":
            self._test = _Test(self._suite(), attributes)
        elif self._failing is None:
            self._start_result(tag, attributes, depth)

    def _start_result(self, tag: str, attributes: Mapping[str, str], depth: int) -> None:
        if tag in _FAILED:
            if self._test is None:
                self._test = _Test("", {"name": self._suite()}, is_suite=True)
            self._test.fail(attributes)
            self._failing = depth
        elif self._test is not None and self._test.outcome is Outcome.PASSED:
            if tag == "skipped":
                self._test.outcome = Outcome.SKIPPED
            elif tag in _FLAKY:
                self._test.outcome = Outcome.FLAKY

    def end(self, tag: str, depth: int) -> None:
        if self._failing == depth:
            self._failing = None
            if self._test is not None and self._test.is_suite:
                self._end_test()
        elif tag == "testcase":
            self._end_test()
        elif tag in _SUITES and self._suites:
            self._suites.pop()

    def data(self, text: str) -> None:
        if self._failing is not None and self._test is not None and self._has_room:
            self._test.details.add(text)

    @property
    def _has_room(self) -> bool:
        return len(self._failures) < MAX_FAILURES

    def _suite(self) -> str:
        """The name of the innermost open suite that has one."""
        return next((name for name in reversed(self._suites) if name), "")

    def _end_test(self) -> None:
        test, self._test = self._test, None
        if test is None:
            return
        key = (test.group, test.name)
        before = self._known.get(key)
        self._seconds += test.seconds or 0.0
        if before is None:
            self._total += 1
            if len(self._known) >= _MAX_KNOWN:
                self._uncounted[test.outcome] += 1
                return
            self._known[key] = (test.outcome, test.seconds)
        else:
            self._repeat(key, before, test)
        if test.outcome is Outcome.FAILED and self._has_room:
            message = test.message
            details = test.details.text()
            if not message:
                message = one_line(details.lstrip().partition("\n")[0], MAX_MESSAGE)
            self._failures[key] = Failure(*key, test.seconds, message, details)

    def _repeat(self, key: tuple[str, str], before: tuple[Outcome, float | None], test: _Test) -> None:
        """The report has a test of this name already.

        Runners that repeat failed tests write each try, the last one last. Otherwise two tests have the same name, and
        one that failed counts.
        """
        outcome = test.outcome
        if before[0] is Outcome.FAILED and outcome is Outcome.PASSED:
            outcome = Outcome.FLAKY
            self._failures.pop(key, None)
        elif outcome is not Outcome.FAILED:
            outcome = before[0]
        self._known[key] = (outcome, test.seconds if before[1] is None else before[1])

    def results(self) -> Results:
        """What the whole document says."""
        counts = dict(self._uncounted)
        for outcome, _ in self._known.values():
            counts[outcome] += 1
        return Results(
            Totals(
                self._total,
                counts[Outcome.FAILED],
                counts[Outcome.SKIPPED],
                counts[Outcome.FLAKY],
                round(min(self._seconds, MAX_SECONDS), 3),
            ),
            [Case(*key, outcome, seconds) for key, (outcome, seconds) in self._known.items()],
            list(self._failures.values()),
            is_cut=sum(self._uncounted.values()) > 0,
        )


def _message(attributes: Mapping[str, str]) -> str:
    text = attributes.get("message") or attributes.get("type") or ""
    return one_line(" ".join(text[: MAX_MESSAGE * 4].split()), MAX_MESSAGE)


def _seconds(text: str | None) -> float | None:
    """A duration as runners write it: ``0.012``, ``1e-05``, ``1,234.5`` (thousands), ``0,5`` (a decimal comma)."""
    if not text or len(text) > 40:
        return None
    text = text.replace(",", "") if "." in text else text.replace(",", ".", 1)
    try:
        seconds = float(text)
    except ValueError:
        return None
    return min(seconds, MAX_SECONDS) if math.isfinite(seconds) and seconds >= 0 else None
