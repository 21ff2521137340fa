"""The geometry of a run's graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

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


def test_a_need_that_is_not_there_is_ignored_and_no_job_gives_no_graph() -> None:
    assert len(run_graph([job("a", "gone")]).boxes) == 1
    assert run_graph([]) == Graph(width=run_graph([]).width, height=run_graph([]).height)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("x" * 20, "x" * 20), ("x" * 21, "x" * 19 + "…"), ("測試" * 10, "測試" * 4 + "測…")],
)
def test_a_name_is_cut_where_its_box_ends(text: str, shown: str) -> None:
    assert fitted(text, 20) == shown
