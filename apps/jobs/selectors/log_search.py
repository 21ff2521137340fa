"""Searching the log of an attempt, line by line."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from apps.jobs.selectors.log_lines import LINE_BYTES, AttemptLog
from controlplane.lib.errors import InvalidInput
from controlplane.lib.line_times import LineTimes
from controlplane.lib.regex_process import RegexProcess

# The most hits that are listed, the most bytes of a question, and for how long a search goes on.
MAX_HITS = 10_000
MAX_QUESTION = 200
_SECONDS = 8.0
_BLOCK_BYTES = 1024 * 1024
# Of a longer line, a search looks at so many bytes, of which a person sees at least LINE_BYTES as a rule.
_LOOKED_AT = 4 * LINE_BYTES
# The most bytes of text of all hits with their context, before the list ends.
_TEXT_BYTES = 1024 * 1024

# Escape sequences and control characters, which a person does not see.
_UNSEEN = re.compile(
    rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)|[ -/]{1,4}[0-~]|[0-OQ-WYZ\\`-~])"
    rb"|[\x00-\x08\x0b-\x1f\x7f]"
)
# What compilers, test runners and shells print where something failed, but not "0 errors", "error: 0" and "errors=0".
_ERROR_BEGINS = re.compile(
    "|".join(
        (
            r"[\w.$]*(?:Error|Exception)(?::|$)|Exception in thread |Traceback \(most recent",
            # Test runners: pytest, unittest, Go, TAP, jest and its kin, Gradle.
            r"E   |FAILED (?!0\b)|\s*(?:--- FAIL:|FAIL:?)\s+\S|\s*not ok\b(?!.*# *(?i:todo|skip))",
            r"\s*● (?!Console)|\s*[✕✗✖×] (?!0\b)|> Task \S+ FAILED$",
            # Build tools and the system.
            r"Failed to compile|make(?:\[\d+\])?: \*\*\* |npm (?:ERR!|error)|Killed$",
            # GitHub's commands.
            r"::error\b|##\[error\]",
        )
    )
)
_NOTHING = r" *(?:0|none|null|nil|false|\"\"|'')\s*(?:[,;.)\]}]|$)"
# In a line in lower case. Each part begins with letters, since that is found faster than a look behind.
_ERROR_WITHIN = re.compile(
    "|".join(
        (
            # Compilers and programs: "error: x", "error[E0308]: x", "error TS2322: x".
            r"(?:error(?<![^\s\[(]error)(?<!\bno error)(?<!\b0 error)|fatal|panic|exception)(?:\[\w+\])?:(?!"
            + _NOTHING
            + ")",
            r"error [a-z]{1,8}\d+\b",
            # JUnit's XML.
            r"<(?:failure|error)\b",
            # Commands that are missing or ended badly.
            r"command not found$|sh: .*: not found$|exit(?:ed)?(?: with)?(?: exit)? (?:status|code):? ?[1-9]",
            r"segmentation fault\b|core dumped\b|out of memory\b",
        )
    )
)
# Logs of programs, Maven's among them ("[ERROR] x", "12:00 ERROR x"), and ends of builds.
_ERROR_CAPITALS = re.compile(
    r"(?:(?:ERROR|FATAL)(?<![^\s|\[]\w{5})(?<!\b0 \w{5})|SEVERE)(?:\]|(?=[\s|]))\s*[^\s=:|]|BUILD FAIL(?:ED|URE)\b"
)
# A line without one of these, in lower case, is no error: that is found much faster.
_ERROR_WORDS = (
    *("error", "fatal", "panic", "exception", "traceback", "severe", "fail", "e   ", "not ok", "not found", "exit"),
    *("***", "npm err", "segmentation", "core dumped", "killed", "out of memory", "●", "✕", "✗", "✖", "×"),
)
# The commands that the log shows, and the titles of steps.
_NO_ERROR = re.compile(r"(?:── (?:[$>]|step \d+/\d+: (?!.* · exit code \d+ after ))|\++ )")

Matcher = Callable[[list[str]], list[int]]


@dataclass(frozen=True)
class Hits:
    """The numbers of the lines that match, in their order: at most MAX_HITS.

    `total` counts all that were found. `complete` says that the whole log was searched; else the search ended at line
    `searched`, since it took too long.
    """

    lines: list[int]
    total: int
    searched: int
    complete: bool


@dataclass
class Hit:
    """A line that matches, and lines before and after it, as a person sees them: at most LINE_BYTES of each."""

    number: int
    text: str
    # When it was printed, in milliseconds since 1970, or 0 if that is not known.
    milliseconds: int
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HitPage:
    """The first hits of a search from a line on, with their context. `following` is the line to go on from, or None.

    `total` counts the hits, also those that are not listed. `complete` says that all lines were searched; else the
    search ended before line `following`, since it took too long, or the hits after it are not listed.
    """

    hits: list[Hit]
    total: int
    searched: int
    complete: bool
    following: int | None


def log_search(log: AttemptLog, *, question: str, regex: bool, case: bool) -> Hits:
    """The lines that contain a text, or that match a regular expression of Python's.

    Colours are ignored, and of a long line only its first 16 KiB are searched. Raises InvalidInput (field "q") for an
    expression that is none or that takes too long; NotFound ``log_not_found``; Unavailable.
    """
    with _matcher(question, regex=regex, case=case) as matches:
        return _search(log, matches)


def log_search_page(
    log: AttemptLog, *, question: str, regex: bool, case: bool, first: int, last: int, limit: int, context: int
) -> HitPage:
    """The first `limit` hits of `log_search` in the lines `first` to `last`, each with `context` lines on both sides.

    It lists fewer hits where lines are long. Raises what `log_search` raises, but an expression that takes too long is
    an error only if no line could be searched.
    """
    listing = _Listing(log.index.times, limit, context)
    with _matcher(question, regex=regex, case=case) as matches:
        found = _search(log, matches, first=first, last=last, listing=listing)
    following = listing.following if listing.following is not None or found.complete else found.searched + 1
    return HitPage(listing.hits, found.total, found.searched, found.complete, following)


@contextmanager
def _matcher(question: str, *, regex: bool, case: bool) -> Iterator[Matcher]:
    if regex:
        with RegexProcess(question, ignore_case=not case, seconds=_SECONDS) as process:
            yield process.matches
        return
    wanted = question if case else question.casefold()

    def contains(lines: list[str]) -> list[int]:
        return [number for number, line in enumerate(lines) if wanted in (line if case else line.casefold())]

    yield contains


def log_errors(log: AttemptLog) -> Hits:
    """The lines that look like an error. Raises NotFound ``log_not_found`` and Unavailable."""
    return _search(log, lambda lines: list(errors_in(lines)))


def log_first_error(log: AttemptLog, *, first: int) -> int | None:
    """The number of the first line from `first` on that looks like an error, and reads no further.

    None also if it is not found in the time of a search. Raises NotFound ``log_not_found`` and Unavailable.
    """
    ends = time.monotonic() + _SECONDS
    for number, lines in _blocks(log, first):
        if (place := next(errors_in(lines), None)) is not None:
            return number + place
        if time.monotonic() > ends:
            break
    return None


def errors_in(lines: list[str]) -> Iterator[int]:
    """The places in the list of the lines that look like an error."""
    together = "\n".join(lines).lower()
    words = [word for word in _ERROR_WORDS if word in together]
    for place, line in enumerate(lines) if words else ():
        lower = line.lower()
        for word in words:
            if word in lower:
                if _is_error(line, lower) and not _NO_ERROR.match(line):
                    yield place
                break


def _is_error(line: str, lower: str) -> bool:
    return bool(_ERROR_BEGINS.match(line) or _ERROR_WITHIN.search(lower) or _ERROR_CAPITALS.search(line))


class _Listing:
    """Collects the first hits with the lines around them, from blocks of lines that come in order."""

    def __init__(self, times: LineTimes, limit: int, context: int) -> None:
        self.hits: list[Hit] = []
        # The first hit that is not listed.
        self.following: int | None = None
        self.context = context
        self._times = times
        self._limit = limit
        self._room = _TEXT_BYTES
        # The last lines before the block.
        self._before: list[str] = []

    def add(self, number: int, lines: list[str], places: list[int]) -> None:
        """The next block, whose first line has this number, and the places of the hits in it."""
        context = self.context
        for hit in self.hits[-1 - context :]:
            self._take(hit.after, lines[: context - len(hit.after)])
        for place in places:
            if len(self.hits) == self._limit or (self._room <= 0 and self.hits):
                self.following = self.following or number + place
                break
            hit = Hit(number + place, lines[place], self._times.at(number + place))
            self._room -= len(hit.text)
            near = lines[max(0, place - context) : place]
            self._take(hit.before, [*self._before[max(0, len(self._before) + len(near) - context) :], *near])
            self._take(hit.after, lines[place + 1 : place + 1 + context])
            self.hits.append(hit)
        self._before = [*self._before, *lines[-context:]][-context:] if context else []

    def _take(self, texts: list[str], lines: list[str]) -> None:
        texts += lines
        self._room -= sum(map(len, lines))


def _search(
    log: AttemptLog, matches: Matcher, *, first: int = 1, last: int | None = None, listing: _Listing | None = None
) -> Hits:
    ends = time.monotonic() + _SECONDS
    last = log.index.total if last is None else last
    found: list[int] = []
    total, following, complete = 0, first, True
    # The lines before the first one are context.
    for number, lines in _blocks(log, max(1, first - listing.context) if listing else first):
        begin = max(0, first - number)
        try:
            places = [begin + place for place in matches(lines[begin : max(0, last + 1 - number)])]
        except InvalidInput:
            if following == first:
                raise
            complete = False
            break
        total += len(places)
        found += [number + place for place in places[: MAX_HITS - len(found)]]
        if listing:
            listing.add(number, lines, places)
        following = max(following, number + len(lines))
        if following > last:
            break
        if time.monotonic() > ends:
            complete = False
            break
    return Hits(found, total, min(following - 1, last), complete)


def _blocks(log: AttemptLog, first: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of the log from `first` on, in blocks, each with the number of its first line."""
    mark = log.index.mark_of_line(first)
    offset, number = mark.offset, mark.lines + 1
    rest = b""
    # A mark may be in the midst of a line, which is before `first`.
    skipped = first - number
    while data := log.read(offset, _BLOCK_BYTES):
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        rest = _kept(rest)
        if skipped > 0:
            lines, skipped, number = lines[skipped:], skipped - len(lines[:skipped]), number + len(lines[:skipped])
        yield number, [_seen(line) for line in lines]
        number += len(lines)
    if rest:
        yield number, [_seen(rest)]


def _kept(rest: bytes) -> bytes:
    """Of the beginning of a line that goes on, what is searched: a line of 30 MB must not be kept."""
    return rest[:_LOOKED_AT]


def _seen(line: bytes) -> str:
    """A line as a person sees it."""
    line = line[:_LOOKED_AT]
    if b"\x1b" in line or b"\r" in line:
        line = _UNSEEN.sub(b"", line)
    return line[:LINE_BYTES].decode("utf-8", "replace")
