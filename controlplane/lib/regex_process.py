"""Regular expressions of strangers, matched in a process of their own that is killed when it takes too long.

Python's `re` cannot be interrupted, and there are expressions for which a line takes it years.
"""

import json
import re
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO, Self

from controlplane.lib.errors import InvalidInput

# Reads the flags and the expression from its arguments. For each line of JSON, a list of texts, it answers with the
# places of those that match.
_PROGRAM = """
import json, re, sys
found = re.compile(sys.argv[1], int(sys.argv[2])).search
for request in sys.stdin:
    print(json.dumps([place for place, text in enumerate(json.loads(request)) if found(text)]), flush=True)
"""


class RegexProcess:
    """Matches texts. Use it in a `with` block, which ends the process."""

    def __init__(self, pattern: str, *, ignore_case: bool, seconds: float) -> None:
        """`seconds` are for all matching together. Raises InvalidInput (field "q") for an invalid expression."""
        if "\0" in pattern:
            # It could not be an argument of a process.
            raise InvalidInput.field("q", "must not contain the null character")
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        try:
            re.compile(pattern, flags)
        except (re.error, RecursionError, OverflowError) as error:
            raise InvalidInput.field("q", f"must be a regular expression: {error}"[:200]) from error
        self._process = subprocess.Popen(  # noqa: S603 — the expression is an argument of our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM, pattern, str(int(flags))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._requests: IO[str] = self._process.stdin  # type: ignore[assignment]
        self._answers: IO[str] = self._process.stdout  # type: ignore[assignment]
        self._timer = threading.Timer(seconds, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()

    def matches(self, texts: list[str]) -> list[int]:
        """The places in `texts` of those that match. Raises InvalidInput (field "q") when it takes too long."""
        try:
            self._requests.write(json.dumps(texts) + "\n")
            self._requests.flush()
            places: list[int] = json.loads(self._answers.readline())
        except (BrokenPipeError, ValueError) as error:
            raise InvalidInput.field("q", "must be a simpler expression: this one took too long") from error
        return places
