"""The geometry of charts. The templates only draw them."""

import math
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


def outcome_chart(days: Iterable[DayOutcomes], outcomes: Sequence[str] = OUTCOMES) -> Chart:
    """Place the bars. The day with the most of these outcomes fills the height; each one that occurred is visible."""
    ordered = sorted(((_date(day.day), day) for day in days), key=lambda pair: pair[0])
    totals = [sum(getattr(day, outcome) for outcome in outcomes) for _, day in ordered]
    highest = max(totals, default=0)
    bars = []
    for place, ((when, day), total) in enumerate(zip(ordered, totals, strict=True)):
        counts = [(outcome, int(getattr(day, outcome))) for outcome in outcomes]
        x = place * SLOT + (SLOT - BAR) // 2
        bars.append(Bar(when, x, x + BAR / 2, _segments(counts, highest), counts, total))
    return Chart(bars, len(bars) * SLOT, HEIGHT, highest, total=sum(totals), outcomes=outcomes)


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


LINE_WIDTH = 560
# The least difference in a share between the lower and the upper edge of a chart, so that noise looks small.
_LEAST_RANGE = 0.05


@dataclass(frozen=True)
class Dot:
    """A value of a line chart, in the chart's units."""

    x: float
    y: float
    percent: float


@dataclass(frozen=True)
class LineChart:
    """Shares (0 to 1) as a line, the oldest first, in a box of `width` × `height` from `low` to `high`."""

    dots: Sequence[Dot]
    low: float
    high: float
    width: int = LINE_WIDTH
    height: int = HEIGHT

    @property
    def path(self) -> str:
        """The line for the attribute `d`."""
        return "M" + "L".join(f"{dot.x} {dot.y}" for dot in self.dots) if self.dots else ""


def share_chart(shares: Sequence[float]) -> LineChart:
    """Place the shares. The edges of the chart are whole per cents around them."""
    low = math.floor(min(shares, default=0.0) * 100 + 1e-6) / 100
    high = math.ceil(max(shares, default=1.0) * 100 - 1e-6) / 100
    if high - low < _LEAST_RANGE:
        low = max(0.0, min(low, 1.0 - _LEAST_RANGE))
        high = low + _LEAST_RANGE
    step = LINE_WIDTH / max(1, len(shares) - 1)
    dots = [
        Dot(round(place * step, 1), round((high - share) / (high - low) * HEIGHT, 1), share * 100)
        for place, share in enumerate(shares)
    ]
    return LineChart(dots, low, high)


@dataclass(frozen=True)
class RunBar:
    """The bar of a run, by how long it took."""

    run_id: str
    status: str
    seconds: float
    x: int
    y: float
    height: float


@dataclass(frozen=True)
class RunChart:
    """The bars of runs, oldest first, in a box of `width` × `height`; `longest` is the number of seconds at its top."""

    bars: Sequence[RunBar]
    longest: float
    width: int
    height: int = HEIGHT
    bar_width: int = BAR


def run_chart(runs: Sequence[tuple[str, str, float]]) -> RunChart:
    """Place the bars of runs: id, status and seconds of each, oldest first. The chart is as wide as they are."""
    longest = max((seconds for _, _, seconds in runs), default=0.0)
    bars = []
    for place, (run_id, status, seconds) in enumerate(runs):
        height = round(max(4.0, seconds / longest * HEIGHT if longest else 0.0), 2)
        bars.append(RunBar(run_id, status, seconds, place * SLOT + (SLOT - BAR) // 2, HEIGHT - height, height))
    return RunChart(bars, longest, len(bars) * SLOT)
