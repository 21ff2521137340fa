"""What a report says, in a form that does not depend on the program that wrote it, and its limits."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

# The largest report, in decompressed bytes. Reading it takes about a second.
REPORT_LIMIT = 20_000_000
# How many files one attempt may send.
MAX_REPORTS = 300
# How many tests of one report are compared with those of other runs. Of more, the passed ones with the shortest
# durations are left out. All are counted.
MAX_CASES = 20_000
# How many failures of one report keep their messages.
MAX_FAILURES = 100
MAX_NAME = 300
MAX_MESSAGE = 500
MAX_DETAILS = 4_000
MAX_FILE = 300
# A longer duration is a mistake of the report.
MAX_SECONDS = 7 * 86_400.0


class ReportKind(StrEnum):
    """The format of a report."""

    JUNIT = "junit"
    COBERTURA = "cobertura"


class Outcome(StrEnum):
    """How a test ended. Flaky: it failed and then passed within the same report."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    FLAKY = "flaky"


@dataclass(frozen=True)
class Case:
    """One test of a report. `group` is its class or package; `seconds` is None if the report does not say it."""

    group: str
    name: str
    outcome: Outcome
    seconds: float | None = None


@dataclass(frozen=True)
class Failure:
    """Why a test failed. `message` is one line, `details` has what the test runner printed about it."""

    group: str
    name: str
    seconds: float | None
    message: str
    details: str


@dataclass(frozen=True)
class Totals:
    """How many tests there were. `flaky` ones count as passed; `seconds` is the sum of their durations."""

    total: int = 0
    failed: int = 0
    skipped: int = 0
    flaky: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> int:
        return self.total - self.failed - self.skipped

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.total + other.total,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.flaky + other.flaky,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Results:
    """What a JUnit report says: all tests counted, and the first ones by name.

    `is_cut` says that `cases` lacks tests.
    """

    totals: Totals
    cases: list[Case] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    is_cut: bool = False


@dataclass(frozen=True)
class Coverage:
    """How much of the code the tests ran: a share of lines from 0 to 1, and of how many lines, if that is known."""

    rate: float
    lines_covered: int | None = None
    lines_valid: int | None = None

    @property
    def percent(self) -> float:
        """The share in per cent with one decimal, never more than it is: 100 only if the tests ran all lines."""
        return math.floor(self.rate * 1000 + 1e-6) / 10

    @classmethod
    def together(cls, parts: "list[Coverage]") -> "Coverage":
        """The coverage of several reports: of all their lines, or the mean where one does not say how many it has."""
        if all(part.lines_valid and part.lines_covered is not None for part in parts):
            covered = sum(part.lines_covered or 0 for part in parts)
            valid = sum(part.lines_valid or 0 for part in parts)
            return cls(covered / valid, covered, valid)
        return cls(sum(part.rate for part in parts) / len(parts))


def one_line(text: str, limit: int) -> str:
    """The text for one line of a page, without control characters.

    A longer one is cut, and ends with a hash of the whole, so that two names do not become one.
    """
    if len(text) > limit:
        digest = sha256(text.encode(errors="replace")).hexdigest()[:8]
        text = f"{text[: limit - 10]}… {digest}"
    return text if text.isprintable() else "".join(character if character.isprintable() else "�" for character in text)


def lines(text: str) -> str:
    """The text without control characters other than line feeds and tabs."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)
