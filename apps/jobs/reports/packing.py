"""Test results in few bytes, for the database. What does not fit is left out, the least telling first."""

import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

from apps.jobs.reports.results import MAX_CASES, Case, Failure, Outcome
from controlplane.lib.compression import gunzip

# DynamoDB takes items of up to 400 KB, and bills each KB that is written.
CASES_BYTES = 200_000
FAILURES_BYTES = 60_000
# The most that either can have before compression: names of 300 characters of up to four bytes.
_UNPACKED_BYTES = MAX_CASES * 1_500

_CODES = {Outcome.PASSED: "p", Outcome.FAILED: "f", Outcome.SKIPPED: "s", Outcome.FLAKY: "k"}
_OUTCOMES = {code: outcome for outcome, code in _CODES.items()}
_RANKS = {Outcome.FAILED: 0, Outcome.FLAKY: 0, Outcome.PASSED: 1, Outcome.SKIPPED: 2}


def cases_pack(cases: Sequence[Case]) -> tuple[bytes, bool]:
    """The tests, and whether some were left out: skipped ones first, then the passed ones that took least time."""
    ranked = sorted(cases, key=lambda case: (_RANKS[case.outcome], -(case.seconds or 0.0)))[:MAX_CASES]
    kept = len(ranked)
    while True:
        packed = _pack(_document(ranked[:kept]))
        if len(packed) <= CASES_BYTES:
            return packed, kept < len(cases)
        kept = min(kept - 1, int(kept * CASES_BYTES / len(packed) * 0.9))


def cases_unpack(packed: bytes) -> Iterator[Case]:
    """The tests that `cases_pack` has packed."""
    document = _unpack(packed)
    groups = document["groups"]
    for place, name, code, milliseconds in document["cases"]:
        seconds = None if milliseconds is None else milliseconds / 1000
        yield Case(groups[place], name, _OUTCOMES[code], seconds)


def failures_pack(failures: Sequence[Failure]) -> tuple[bytes, bool]:
    """The failures, and whether the last ones were left out."""
    kept = len(failures)
    while True:
        packed = _pack([list(vars(failure).values()) for failure in failures[:kept]])
        if len(packed) <= FAILURES_BYTES:
            return packed, kept < len(failures)
        kept = min(kept - 1, int(kept * FAILURES_BYTES / len(packed) * 0.9))


def failures_unpack(packed: bytes) -> list[Failure]:
    """The failures that `failures_pack` has packed."""
    return [Failure(*entry) for entry in _unpack(packed)]


def _document(cases: Sequence[Case]) -> dict[str, Any]:
    """The name of a class is in it once."""
    groups: dict[str, int] = {}
    # Names that are alike compress better side by side.
    rows = [
        [
            groups.setdefault(case.group, len(groups)),
            case.name,
            _CODES[case.outcome],
            None if case.seconds is None else round(case.seconds * 1000),
        ]
        for case in sorted(cases, key=lambda case: (case.group, case.name))
    ]
    return {"groups": list(groups), "cases": rows}


def _pack(document: Any) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return gzip.compress(text.encode(errors="replace"), compresslevel=6, mtime=0)


def _unpack(packed: bytes) -> Any:
    return json.loads(gunzip(packed, limit=_UNPACKED_BYTES))
