"""Reading coverage in Cobertura's format, which coverage.py, Istanbul, coverlet, gocover-cobertura and others write."""

import math

from apps.jobs.reports.reading import report_invalid, xml_read
from apps.jobs.reports.results import Coverage, one_line

_MAX_LINES = 10**9


def cobertura_read(data: bytes) -> Coverage:
    """The share of lines that the tests ran. Raises Unprocessable with code ``report_invalid``."""
    document = _Document()
    xml_read(data, document)
    return document.coverage()


class _Document:
    def __init__(self) -> None:
        self._attributes: dict[str, str] = {}
        self._methods = 0
        self._lines = self._hit = 0

    def start(self, tag: str, attributes: dict[str, str], depth: int) -> None:
        if depth == 1:
            if tag != "coverage":
                raise report_invalid(
                    f"The report begins with the element {one_line(tag, 50)}. Cobertura's XML begins with coverage."
                )
            self._attributes = attributes
        elif tag == "methods":
            self._methods += 1
        elif tag == "line" and not self._methods and "hits" in attributes:
            # The lines of methods come again as lines of their class.
            self._lines += 1
            self._hit += attributes["hits"].strip() not in ("", "0")

    def end(self, tag: str, depth: int) -> None:  # noqa: ARG002 — the target's protocol
        if tag == "methods":
            self._methods -= 1

    def data(self, text: str) -> None:
        """The text between elements says nothing."""

    def coverage(self) -> Coverage:
        """What the root says, or else what its lines do."""
        covered, valid = self._count("lines-covered"), self._count("lines-valid")
        if valid and covered is not None and covered <= valid:
            return Coverage(covered / valid, covered, valid)
        rate = self._rate()
        if rate is not None and not self._lines:
            return Coverage(rate)
        if self._lines:
            return Coverage(self._hit / self._lines, self._hit, self._lines)
        raise report_invalid("The report says of no line whether the tests ran it: line-rate and lines are missing.")

    def _count(self, name: str) -> int | None:
        text = self._attributes.get(name, "")
        return min(int(text), _MAX_LINES) if text.isascii() and text.isdigit() and len(text) <= 18 else None

    def _rate(self) -> float | None:
        try:
            rate = float(self._attributes.get("line-rate", ""))
        except ValueError:
            return None
        return rate if math.isfinite(rate) and 0 <= rate <= 1 else None
