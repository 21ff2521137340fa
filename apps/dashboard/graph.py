"""The geometry of a run's graph: layers by what jobs need, from left to right. The templates only draw it."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Protocol

# All lengths are in CSS pixels.
BOX_WIDTH, BOX_HEIGHT = 184, 46
CELL_WIDTH, CELL_HEIGHT = 168, 32
FRAME_HEAD, FRAME_PADDING = 30, 8
GAP_ACROSS, GAP_DOWN, GAP_CELLS = 44, 14, 6
MARGIN = 4
# A line that passes a column has a lane between its boxes. More lanes widen the gap, up to a height.
LANE, MAX_GAP = 7, 49
# A layer that is higher goes on in another column.
MAX_HEIGHT = 40 * (BOX_HEIGHT + GAP_DOWN)
# A layer is in the middle beside a higher one, but begins no lower than this, so that it is seen without scrolling.
_LOWEST_TOP = 240
# An unfolded matrix with more cells has several columns.
FRAME_ROWS = 12
# How many lines are drawn at most. More than that show nothing but a black area.
MAX_EDGES = 2_000
# How many characters fit into a box and into a cell.
_BOX_CHARACTERS, _CELL_CHARACTERS = 20, 19

_Point = tuple[float, float]

# The statuses of jobs, that first which says most about a matrix that has some like it.
_TELLING = (
    "failed",
    "timed_out",
    "cancelled",
    "running",
    "assigned",
    "queued",
    "waiting",
    "completed",
    "skipped",
)


class GraphedJob(Protocol):
    """What the geometry reads of a job; `job` is the name in the file that the cells of a matrix share."""

    @property
    def name(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def cell(self) -> Mapping[str, str]: ...
    @property
    def needs(self) -> Sequence[str]: ...
    @property
    def status(self) -> str: ...


@dataclass(frozen=True)
class Box:
    """A job, or a cell of an unfolded matrix. `label` is its name as far as it fits."""

    job: GraphedJob
    label: str
    x: int
    y: int
    width: int = BOX_WIDTH
    height: int = BOX_HEIGHT
    is_cell: bool = False


@dataclass(frozen=True)
class Matrix:
    """A matrix: folded into one box, or unfolded into a frame around the boxes of its cells.

    `counts` has how many of its cells have each status, the most frequent one first.
    """

    name: str
    label: str
    jobs: Sequence[GraphedJob]
    is_open: bool
    x: int
    y: int
    width: int
    height: int

    @property
    def counts(self) -> list[tuple[str, int]]:
        return Counter(str(job.status) for job in self.jobs).most_common()

    @property
    def status(self) -> str:
        """The status of a cell that says most about all of them."""
        statuses = {str(job.status) for job in self.jobs}
        return next((status for status in _TELLING if status in statuses), "waiting")


@dataclass(frozen=True)
class Graph:
    """The boxes, the matrices and the lines between them; `edges` are values of the attribute `d`.

    `is_cut` says that there are too many lines to draw them all.
    """

    boxes: list[Box] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    joints: list[tuple[int, int]] = field(default_factory=list)
    width: int = 0
    height: int = 0
    is_cut: bool = False


@dataclass
class _Unit:
    """A job of the file with its cells, which is one place in the graph."""

    name: str
    jobs: list[GraphedJob]
    needs: set[str]
    layer: int = 0
    column: int = 0
    is_open: bool = False
    x: int = 0
    y: int = 0

    @property
    def is_matrix(self) -> bool:
        return len(self.jobs) > 1

    @property
    def rows(self) -> int:
        """How many cells of the unfolded matrix are below each other."""
        return min(len(self.jobs), max(FRAME_ROWS, math.ceil(math.sqrt(2.5 * len(self.jobs)))))

    @property
    def width(self) -> int:
        if not self.is_open:
            return BOX_WIDTH
        columns = math.ceil(len(self.jobs) / self.rows)
        return 2 * FRAME_PADDING + columns * CELL_WIDTH + (columns - 1) * GAP_CELLS

    @property
    def height(self) -> int:
        if not self.is_open:
            return BOX_HEIGHT
        return FRAME_HEAD + FRAME_PADDING + self.rows * (CELL_HEIGHT + GAP_CELLS) - GAP_CELLS

    @property
    def middle(self) -> int:
        return self.y + self.height // 2


@dataclass
class _Lane:
    """Where lines pass a column. `wanted` is the height at which they would pass if there were no boxes."""

    wanted: float
    y: float = 0


@dataclass
class _Column:
    """Units below each other, with gaps above, between and below them, of which each has its lanes."""

    units: list[_Unit]
    x: int = 0
    right: int = 0
    gaps: list[list[_Lane]] = field(init=False)

    def __post_init__(self) -> None:
        self.gaps = [[] for _ in range(len(self.units) + 1)]

    @property
    def height(self) -> int:
        return sum(unit.height for unit in self.units) + sum(map(self.gap_height, range(len(self.gaps))))

    def gap_height(self, number: int) -> int:
        """The height of this gap; the first and the last one are only there for lanes."""
        lanes = len(self.gaps[number])
        least = GAP_DOWN if 0 < number < len(self.units) else 0
        return max(least, min((lanes + 1) * LANE, MAX_GAP)) if lanes else least

    @cached_property
    def _middles(self) -> list[float]:
        """The middles of the gaps, before lanes widen them."""
        between = [(one.y + one.height + other.y) / 2 for one, other in pairwise(self.units)]
        return [self.units[0].y - LANE, *between, self.units[-1].y + self.units[-1].height + LANE]

    def lane(self, wanted: float) -> _Lane:
        """A new lane in the gap that is nearest to this height."""
        lane = _Lane(wanted)
        self.gaps[min(range(len(self.gaps)), key=lambda number: abs(self._middles[number] - wanted))].append(lane)
        return lane


@dataclass
class _Bundle:
    """Units that all need the same `sources`. Their lines share the lanes, by the number of the column."""

    sources: list[_Unit]
    targets: list[_Unit]
    lanes: dict[int, _Lane] = field(default_factory=dict)


def run_graph(jobs: Sequence[GraphedJob], *, opened: Collection[str] = ()) -> Graph:
    """Place the jobs, which come in an order in which each follows what it needs.

    A matrix is one box, unless its name is in `opened`. A line that a longer way replaces is left out.
    """
    units = _units(jobs, opened)
    columns = [_Column(part) for layer in _ordered(units) for part in _parts(layer)]
    for number, column in enumerate(columns):
        for unit in column.units:
            unit.column = number
    # The lanes are where the boxes leave room, and then the boxes make room for the lanes.
    _place(columns)
    bundles = _bundles(units)
    for bundle in bundles:
        _lanes(bundle, columns)
    width, height = _place(columns)
    edges, joints, is_cut = _edges(bundles, columns)
    graph = Graph([], [], edges, joints, width, height, is_cut)
    for unit in units.values():
        _draw(unit, graph)
    return graph


def _units(jobs: Sequence[GraphedJob], opened: Collection[str]) -> dict[str, _Unit]:
    units: dict[str, _Unit] = {}
    unit_of: dict[str, str] = {}
    for job in jobs:
        unit = units.setdefault(job.job, _Unit(job.job, [], set()))
        unit.jobs.append(job)
        unit_of[job.name] = job.job
        unit.needs |= {unit_of[name] for name in job.needs if name in unit_of} - {job.job}
        unit.layer = max([unit.layer, *(units[name].layer + 1 for name in unit.needs)])
    for unit in units.values():
        unit.is_open = unit.is_matrix and unit.name in opened
    return units


def _ordered(units: Mapping[str, _Unit]) -> list[list[_Unit]]:
    """The layers. In each, the units are in the order of what they need, so that few lines cross."""
    layers: dict[int, list[_Unit]] = defaultdict(list)
    for unit in units.values():
        layers[unit.layer].append(unit)
    rank: dict[str, float] = {}
    for number in sorted(layers):
        layer = layers[number]
        layer.sort(key=lambda unit: sum(rank[name] for name in unit.needs) / max(1, len(unit.needs)))
        for place, unit in enumerate(layer):
            rank[unit.name] = (place + 0.5) / len(layer)
    return [layers[number] for number in sorted(layers)]


def _parts(layer: Sequence[_Unit]) -> list[list[_Unit]]:
    """The units of each column of the layer."""
    parts: list[list[_Unit]] = [[]]
    height = 0
    for unit in layer:
        if parts[-1] and height + unit.height > MAX_HEIGHT:
            parts.append([])
            height = 0
        parts[-1].append(unit)
        height += unit.height + GAP_DOWN
    return parts


def _place(columns: Sequence[_Column]) -> tuple[int, int]:
    """Give each unit and lane its place. Returns the width and the height of all."""
    heights = [column.height for column in columns]
    highest, x = max(heights, default=0), MARGIN
    for column, height in zip(columns, heights, strict=True):
        y = MARGIN + min((highest - height) // 2, _LOWEST_TOP)
        column.x, column.right = x, x + max(unit.width for unit in column.units)
        for number, lanes in enumerate(column.gaps):
            gap = column.gap_height(number)
            for place, lane in enumerate(sorted(lanes, key=lambda lane: lane.wanted), start=1):
                lane.y = round(y + gap * place / (len(lanes) + 1), 1)
            y += gap
            for unit in column.units[number : number + 1]:
                unit.x, unit.y = x, y
                y += unit.height
        x = column.right + GAP_ACROSS
    return max(0, x - GAP_ACROSS + MARGIN), highest + 2 * MARGIN


def _bundles(units: Mapping[str, _Unit]) -> list[_Bundle]:
    sharing: dict[tuple[str, ...], list[_Unit]] = defaultdict(list)
    for name, needs in _reduced(units).items():
        if needs:
            sharing[needs].append(units[name])
    return [_Bundle([units[name] for name in needs], targets) for needs, targets in sharing.items()]


def _lanes(bundle: _Bundle, columns: Sequence[_Column]) -> None:
    """Reserve a lane in each column that lines of the bundle pass, near the straight way."""
    first = min(unit.column for unit in bundle.sources)
    last = max(unit.column for unit in bundle.targets)
    for number in range(first + 1, last):
        before = [unit for unit in bundle.sources if unit.column < number]
        after = [unit for unit in bundle.targets if unit.column > number]
        begin, end = max(unit.column for unit in before), min(unit.column for unit in after)
        begins, ends = (sum(unit.middle for unit in side) / len(side) for side in (before, after))
        wanted = begins + (ends - begins) * (number - begin) / (end - begin)
        bundle.lanes[number] = columns[number].lane(wanted)


def _edges(bundles: Sequence[_Bundle], columns: Sequence[_Column]) -> tuple[list[str], list[tuple[int, int]], bool]:
    """The lines and the joints: curves between two columns, and straight lines in the lanes.

    Where several lines of a bundle become several others, they meet in a joint.
    """
    edges: list[str] = []
    joints: dict[tuple[int, int], None] = {}
    for bundle in bundles:
        starts, ends = _points(bundle, columns)
        for number in sorted(starts):
            begins, leads, edge = starts[number], ends[number + 1], columns[number].right
            if len(begins) > 1 and len(leads) > 1:
                joint = _joint(columns[number + 1].x - GAP_ACROSS // 2, begins, joints)
                edges += [_curve(start, joint, edge) for start in begins] + [_curve(joint, end, edge) for end in leads]
            else:
                edges += [_curve(start, end, edge) for start in begins for end in leads]
        edges += [f"M{columns[number].x} {lane.y}H{columns[number].right}" for number, lane in bundle.lanes.items()]
        if len(edges) > MAX_EDGES:
            return edges[:MAX_EDGES], [*joints], True
    return edges, [*joints], False


def _points(bundle: _Bundle, columns: Sequence[_Column]) -> tuple[dict[int, list[_Point]], dict[int, list[_Point]]]:
    """Where lines of the bundle leave each column to the right, and where they come to each from the left."""
    starts: dict[int, list[_Point]] = defaultdict(list)
    ends: dict[int, list[_Point]] = defaultdict(list)
    for unit in bundle.sources:
        starts[unit.column].append((unit.x + unit.width, unit.middle))
    for unit in bundle.targets:
        ends[unit.column].append((unit.x, unit.middle))
    for number, lane in bundle.lanes.items():
        starts[number].append((columns[number].right, lane.y))
        ends[number].append((columns[number].x, lane.y))
    return starts, ends


def _joint(x: int, starts: Sequence[_Point], joints: dict[tuple[int, int], None]) -> tuple[int, int]:
    """A new joint at about the height of the starts, where there is no other."""
    joint = x, round(sum(y for _, y in starts) / len(starts))
    while joint in joints:
        joint = x, joint[1] + LANE
    joints[joint] = None
    return joint


def _reduced(units: Mapping[str, _Unit]) -> dict[str, tuple[str, ...]]:
    """What each unit needs, without what it also needs by way of others. Sets of units are the bits of numbers."""
    bits = {name: 1 << place for place, name in enumerate(units)}
    before: dict[str, int] = {}
    reduced = {}
    for unit in sorted(units.values(), key=lambda unit: unit.layer):
        by_others = 0
        for name in unit.needs:
            by_others |= before[name]
        before[unit.name] = by_others | sum(bits[name] for name in unit.needs)
        reduced[unit.name] = tuple(sorted(name for name in unit.needs if not by_others & bits[name]))
    return reduced


def _curve(start: _Point, end: _Point, edge: int) -> str:
    """A line to the next column. A box may be narrower than its column, which ends at `edge`."""
    (x, y), (to_x, to_y) = start, end
    if y == to_y:
        return f"M{x} {y}H{to_x}"
    way = f"H{edge}" if x < edge else ""
    x = max(x, edge)
    bend = (to_x - x) / 2
    return f"M{start[0]} {y}{way}C{x + bend:g} {y} {to_x - bend:g} {to_y} {to_x} {to_y}"


def _draw(unit: _Unit, graph: Graph) -> None:
    if not unit.is_matrix:
        job = unit.jobs[0]
        graph.boxes.append(Box(job, fitted(job.name, _BOX_CHARACTERS), unit.x, unit.y))
        return
    label = fitted(unit.name, _BOX_CHARACTERS)
    place = (unit.x, unit.y, unit.width, unit.height)
    graph.matrices.append(Matrix(unit.name, label, unit.jobs, unit.is_open, *place))
    if not unit.is_open:
        return
    for number, job in enumerate(unit.jobs):
        column, row = divmod(number, unit.rows)
        x = unit.x + FRAME_PADDING + column * (CELL_WIDTH + GAP_CELLS)
        y = unit.y + FRAME_HEAD + row * (CELL_HEIGHT + GAP_CELLS)
        label = fitted(", ".join(job.cell.values()) or job.name, _CELL_CHARACTERS)
        graph.boxes.append(Box(job, label, x, y, CELL_WIDTH, CELL_HEIGHT, is_cell=True))


def fitted(text: str, characters: int) -> str:
    """The text as far as it fits. Letters of some scripts are about twice as wide."""
    widths = [0]
    for letter in text:
        widths.append(widths[-1] + (2 if ord(letter) >= 0x1100 else 1))
    if widths[-1] <= characters:
        return text
    fits = max(place for place, (before, _) in enumerate(pairwise([*widths, 0])) if before <= characters - 1)
    return f"{text[:fits]}…"
