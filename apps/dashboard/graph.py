"""The geometry of a run's graph: layers by what jobs need, from left to right. The templates only draw it."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

# All lengths are in CSS pixels.
BOX_WIDTH, BOX_HEIGHT = 184, 46
CELL_WIDTH, CELL_HEIGHT = 168, 32
FRAME_HEAD, FRAME_PADDING = 30, 8
GAP_ACROSS, GAP_DOWN, GAP_CELLS = 44, 14, 6
MARGIN = 4
# A layer that is higher goes on beside itself.
MAX_HEIGHT = 40 * (BOX_HEIGHT + GAP_DOWN)
# A layer is in the middle beside a higher one, but begins no lower than this, so that it is seen without scrolling.
_LOWEST_TOP = 240
# An unfolded matrix with more cells has several columns.
FRAME_ROWS = 12
# How many lines are drawn at most. More than that show nothing but a black area.
MAX_EDGES = 2_000
# How many characters fit into a box and into a cell.
_BOX_CHARACTERS, _CELL_CHARACTERS = 20, 19

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


def run_graph(jobs: Sequence[GraphedJob], *, opened: Collection[str] = ()) -> Graph:
    """Place the jobs, which come in an order in which each follows what it needs.

    A matrix is one box, unless its name is in `opened`. A line that a longer way replaces is left out.
    """
    units = _units(jobs, opened)
    layers = _ordered(units)
    width, height = _place(layers)
    edges, joints, is_cut = _edges(units)
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


def _place(layers: Sequence[Sequence[_Unit]]) -> tuple[int, int]:
    """Give each unit its place. Returns the width and the height of all."""
    columns = [column for layer in layers for column in _columns(layer)]
    heights = [sum(unit.height + GAP_DOWN for unit in column) - GAP_DOWN for column in columns]
    highest, x = max(heights, default=0), MARGIN
    for column, height in zip(columns, heights, strict=True):
        y = MARGIN + min((highest - height) // 2, _LOWEST_TOP)
        for unit in column:
            unit.x, unit.y = x, y
            y += unit.height + GAP_DOWN
        x += max(unit.width for unit in column) + GAP_ACROSS
    return max(0, x - GAP_ACROSS + MARGIN), highest + 2 * MARGIN


def _columns(layer: Sequence[_Unit]) -> list[list[_Unit]]:
    columns: list[list[_Unit]] = [[]]
    height = 0
    for unit in layer:
        if columns[-1] and height + unit.height > MAX_HEIGHT:
            columns.append([])
            height = 0
        columns[-1].append(unit)
        height += unit.height + GAP_DOWN
    return columns


def _edges(units: Mapping[str, _Unit]) -> tuple[list[str], list[tuple[int, int]], bool]:
    """The lines and the joints. Several units that need the same several others share their lines by a joint."""
    sharing: dict[tuple[str, ...], list[_Unit]] = defaultdict(list)
    for name, needs in _reduced(units).items():
        if needs:
            sharing[needs].append(units[name])
    edges: list[str] = []
    joints: list[tuple[int, int]] = []
    for needs, following in sharing.items():
        sources = [units[name] for name in needs]
        ends = [(unit.x, unit.middle) for unit in following]
        starts = [(source.x + source.width, source.middle) for source in sources]
        if len(sources) > 1 and len(following) > 1:
            joint = min(x for x, _ in ends) - GAP_ACROSS // 2, sum(y for _, y in starts) // len(starts)
            joints.append(joint)
            edges += [_curve(start, joint) for start in starts] + [_curve(joint, end) for end in ends]
        else:
            edges += [_curve(start, end) for start in starts for end in ends]
        if len(edges) > MAX_EDGES:
            return edges[:MAX_EDGES], joints, True
    return edges, joints, False


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


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x, y), (to_x, to_y) = start, end
    if y == to_y:
        return f"M{x} {y}H{to_x}"
    # Over a long way, the line leaves its layer where the next one begins, so that it crosses few boxes.
    bend = max(8, min(GAP_ACROSS, to_x - x) // 2)
    return f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"


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
