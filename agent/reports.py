"""Which files of its workspace a job reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Reports:
    """Patterns of the paths of JUnit files, and the path of a file with coverage in Cobertura's format."""

    junit: tuple[str, ...] = ()
    coverage: Optional[str] = None

    @classmethod
    def from_document(cls, document: Optional[dict[str, Any]]) -> Reports:
        """Those that the member `reports` of a definition names; an older control plane sends none."""
        named = document or {}
        coverage = named.get("coverage")
        return cls(tuple(map(str, named.get("junit") or ())), None if coverage is None else str(coverage))


@dataclass(frozen=True)
class ReportFile:
    """A report as it is sent. `kind` is `junit` or `cobertura`, `path` that in the workspace, `packed` is gzip."""

    kind: str
    path: str
    packed: bytes
    commit: str


@dataclass(frozen=True)
class ReportAnswer:
    """What the control plane has found in a report: how many tests, or the share of lines that the tests ran."""

    total: int
    failed: int
    skipped: int
    coverage: Optional[float]

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> ReportAnswer:
        coverage = answer["coverage"]
        return cls(
            total=int(answer["total"] or 0),
            failed=int(answer["failed"] or 0),
            skipped=int(answer["skipped"] or 0),
            coverage=None if coverage is None else float(coverage),
        )
