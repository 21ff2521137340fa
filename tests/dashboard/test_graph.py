"""The geometry of a run's graph."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.dashboard.graph import MAX_EDGES, Box, Graph, Matrix, fitted, run_graph


@dataclass(frozen=True)
class Job:
    name: str
    needs: Sequence[str] = ()
    status: str = "completed"
    job: str = ""
    cell: dict[str, str] = field(default_factory=dict)


def job(name: str, *needs: str, status: str = "completed") -> Job:
    return Job(name, needs, status, name)


def cells(name: str, count: int, *needs: str, status: str = "completed") -> list[Job]:
    return [Job(f"{name} ({n})", needs, status, name, {"n": str(n)}) for n in range(count)]


def placed(graph: Graph) -> list[Box | Matrix]:
    return [*graph.boxes, *graph.matrices]


def x_of(graph: Graph) -> dict[str, int]:
    return {box.job.name: box.x for box in graph.boxes} | {matrix.name: matrix.x for matrix in graph.matrices}


def test_a_job_is_right_of_all_that_it_needs() -> None:
    graph = run_graph([job("a"), job("b", "a"), job("c"), job("d", "b", "c"), job("e", "a", "d")])
    x = x_of(graph)
    assert x["a"] == x["c"] < x["b"] < x["d"] < x["e"]
    assert graph.width > x["e"]


def test_boxes_do_not_overlap_and_are_inside_the_graph() -> None:
    wide = [job(f"w{n}", "a") for n in range(100)]
    jobs = [job("a"), *wide, *cells("m", 30, "a"), *cells("n", 4, "w1"), job("z", *(one.name for one in wide))]
    graph = run_graph(jobs, opened=["m"])
    taken = [box for box in placed(graph) if not (isinstance(box, Box) and box.is_cell)]
    for box in taken:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= graph.width
        assert box.y + box.height <= graph.height
    for one in taken:
        for other in taken:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert one is other or apart or one.y + one.height <= other.y or other.y + other.height <= one.y


def test_a_matrix_is_one_box_with_its_count_by_state_until_it_is_unfolded() -> None:
    jobs = [job("a"), *cells("m", 5, "a"), *cells("m", 2, "a", status="failed")]
    folded = run_graph(jobs)
    (matrix,) = folded.matrices
    assert (matrix.is_open, matrix.counts, matrix.status) == (False, [("completed", 5), ("failed", 2)], "failed")
    assert [box.job.name for box in folded.boxes] == ["a"]
    unfolded = run_graph(jobs, opened=["m", "unknown"])
    (matrix,) = unfolded.matrices
    assert matrix.is_open
    inside = [box for box in unfolded.boxes if box.is_cell]
    assert len(inside) == 7
    for box in inside:
        assert matrix.x < box.x
        assert box.x + box.width < matrix.x + matrix.width
        assert box.y + box.height < matrix.y + matrix.height
    assert len(unfolded.edges) == len(folded.edges) == 1


def test_a_line_that_a_longer_way_replaces_is_left_out() -> None:
    assert len(run_graph([job("a"), job("b", "a"), job("c", "a", "b")]).edges) == 2


Point = tuple[float, float]


def points(edge: str) -> list[Point]:
    """Where the parts of a line begin and end."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", edge)]
    found = [(numbers[0], numbers[1])]
    parts = re.findall(r"([HC])([^HC]*)", edge)
    for command, text in parts:
        values = [float(number) for number in text.split()]
        if command == "C":
            # The curve does not leave the rectangle of its ends, so that these tell where it is.
            xs, ys = values[::2], values[1::2]
            assert [found[-1][0], *xs] == sorted([found[-1][0], *xs])
            assert ys == [found[-1][1], ys[-1], ys[-1]]
        found.append((values[-2], values[-1]) if command == "C" else (values[0], found[-1][1]))
    return found


def crossings(graph: Graph) -> Iterator[tuple[str, str]]:
    """The lines that enter a box, each with the box."""
    for edge in graph.edges:
        for (x, y), (to_x, to_y) in pairwise(points(edge)):
            assert x <= to_x
            for box in placed(graph):
                beside = to_x <= box.x or x >= box.x + box.width
                if not beside and max(y, to_y) > box.y and min(y, to_y) < box.y + box.height:
                    yield edge, box.label


def leads_to(graph: Graph) -> dict[str, set[str]]:
    """To which boxes the lines lead that leave each box."""
    following: dict[Point, set[Point]] = defaultdict(set)
    for edge in graph.edges:
        ends = points(edge)
        following[ends[0]].add(ends[-1])
    boxes = {box.label: box for box in placed(graph) if not (isinstance(box, Box) and box.is_cell)}
    at = {(float(box.x), float(box.y + box.height // 2)): label for label, box in boxes.items()}
    found = {}
    for label, box in boxes.items():
        waiting, reached = [(float(box.x + box.width), float(box.y + box.height // 2))], set()
        while waiting:
            for point in following[waiting.pop()]:
                if point in at:
                    reached.add(at[point])
                else:
                    waiting.append(point)
        found[label] = reached
    return found


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Job], dict[str, set[str]]]:
    """Jobs, some of them matrices, and what each needs that nothing else that it needs leads to."""
    jobs: list[Job] = []
    before: dict[str, set[str]] = {}
    direct: dict[str, set[str]] = {}
    for number in range(draw(st.integers(1, 25))):
        name = f"j{number}"
        needs = draw(st.sets(st.sampled_from(sorted(before)), max_size=6)) if before else set()
        before[name] = needs | {far for need in needs for far in before[need]}
        direct[name] = {need for need in needs if not any(need in before[other] for other in needs)}
        count = draw(st.sampled_from((1, 1, 1, 3, 20)))
        needed = [job.name for job in jobs if job.job in needs]
        jobs += cells(name, count, *needed) if count > 1 else [job(name, *needed)]
    return jobs, direct


@given(graphs(), st.data())
def test_no_line_enters_a_box_and_each_leads_from_a_job_to_one_that_needs_it(
    drawn: tuple[list[Job], dict[str, set[str]]], data: st.DataObject
) -> None:
    jobs, direct = drawn
    names = sorted({job.job for job in jobs})
    graph = run_graph(jobs, opened=data.draw(st.sets(st.sampled_from(names))))
    assert list(crossings(graph)) == []
    needed_by = {name: {other for other, needs in direct.items() if name in needs} for name in names}
    assert leads_to(graph) == needed_by
    for edge in graph.edges:
        assert all(0 <= x <= graph.width and 0 <= y <= graph.height for x, y in points(edge))


def test_a_line_goes_around_the_boxes_between_its_ends() -> None:
    jobs = [job("lint"), *cells("test", 3), job("build", "lint"), job("use", "build")]
    for opened in ([], ["test"]):
        graph = run_graph([*jobs, job("after", *(f"test ({n})" for n in range(3)), "use")], opened=opened)
        assert list(crossings(graph)) == []
        assert leads_to(graph)["test"] == {"after"}


def test_a_layer_of_several_columns_has_lines_around_its_boxes() -> None:
    wide = [job(f"w{n}", "a") for n in range(100)]
    graph = run_graph([job("a"), *wide, job("z", *(one.name for one in wide))])
    assert len({box.x for box in graph.boxes}) > 4
    assert list(crossings(graph)) == []
    # All of them share the lanes.
    assert len(graph.edges) < 210


def test_jobs_that_need_the_same_share_their_lines() -> None:
    first = [job(f"a{n}") for n in range(20)]
    graph = run_graph([*first, *(job(f"b{n}", *(one.name for one in first)) for n in range(20))])
    assert len(graph.joints) == 1
    assert len(graph.edges) == 40


def test_a_thousand_jobs_have_a_place_and_not_more_lines_than_can_be_seen() -> None:
    first = [job(f"a{n}") for n in range(500)]
    following = [job(f"b{n}", *(one.name for one in first[n % 7 :: 9])) for n in range(500)]
    graph = run_graph([*first, *following])
    assert len(graph.boxes) == 1000
    assert len(graph.edges) <= MAX_EDGES
    assert not graph.is_cut
    many = [job(f"b{n}", *(one.name for one in first[n : n + 10])) for n in range(480)]
    assert run_graph([*first, *many]).is_cut
    # However many lines pass between two boxes, these stay near each other.
    assert run_graph([*first, *many]).height < 80 * 100


def test_a_need_that_is_not_there_is_ignored_and_no_job_gives_no_graph() -> None:
    assert len(run_graph([job("a", "gone")]).boxes) == 1
    assert run_graph([]) == Graph(width=run_graph([]).width, height=run_graph([]).height)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("x" * 20, "x" * 20), ("x" * 21, "x" * 19 + "…"), ("測試" * 10, "測試" * 4 + "測…")],
)
def test_a_name_is_cut_where_its_box_ends(text: str, shown: str) -> None:
    assert fitted(text, 20) == shown
