"""The geometry of the chart of ended jobs. The template only draws it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

HEIGHT = 120
SLOT = 28
BAR = 18
OUTCOMES = ("completed", "cancelled", "timed_out", "failed")


class DayOutcomes(Protocol):
    """How many jobs ended on a day, by outcome."""

    @property
    def day(self) -> date | str: ...
    @property
    def completed(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def cancelled(self) -> int: ...
    @property
    def timed_out(self) -> int: ...


@dataclass(frozen=True)
class Segment:
    """The segment of a bar for one outcome. `y` and `height` are in the chart's units."""

    outcome: str
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """The bar of one day."""

    day: date
    x: int
    middle: float
    segments: Sequence[Segment]
    counts: Sequence[tuple[str, int]]
    total: int


@dataclass(frozen=True)
class Chart:
    """The bars by day, oldest first, in a box of `width` × `height`."""

    bars: Sequence[Bar]
    width: int
    height: int
    highest: int
    total: int
    outcomes: Sequence[str] = OUTCOMES
    bar_width: int = BAR


def outcome_chart(days: Iterable[DayOutcomes]) -> Chart:
    """Place the bars. The day with the most jobs fills the height; each outcome that occurred is visible."""
    ordered = sorted(((_date(day.day), day) for day in days), key=lambda pair: pair[0])
    totals = [sum(getattr(day, outcome) for outcome in OUTCOMES) for _, day in ordered]
    highest = max(totals, default=0)
    bars = []
    for place, ((when, day), total) in enumerate(zip(ordered, totals, strict=True)):
        counts = [(outcome, int(getattr(day, outcome))) for outcome in OUTCOMES]
        x = place * SLOT + (SLOT - BAR) // 2
        bars.append(Bar(when, x, x + BAR / 2, _segments(counts, highest), counts, total))
    return Chart(bars, width=len(bars) * SLOT, height=HEIGHT, highest=highest, total=sum(totals))


def _segments(counts: Sequence[tuple[str, int]], highest: int) -> list[Segment]:
    segments = []
    bottom = float(HEIGHT)
    for outcome, count in counts:
        if count:
            height = max(2.0, count / highest * HEIGHT)
            bottom = max(0.0, bottom - height)
            segments.append(Segment(outcome, round(bottom, 2), round(height, 2)))
    return segments


def _date(day: date | str) -> date:
    return day if isinstance(day, date) else date.fromisoformat(day)
