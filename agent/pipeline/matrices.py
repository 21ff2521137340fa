"""The cells of a matrix."""

from __future__ import annotations

from itertools import product

from agent.pipeline.constants import MAX_NODE_NAME
from agent.pipeline.definition import Matrix


def combinations(matrix: Matrix) -> int:
    """How many cells the axes have before any is left out."""
    count = 1 if matrix.axes else 0
    for values in matrix.axes.values():
        count *= len(values)
    return count


def cells(matrix: Matrix) -> list[dict[str, str]]:
    """The cells in order: those of the axes that no entry of `exclude` names, with what `include` adds.

    An entry of `include` adds its other values to each cell that has its values of the axes. If there is none, it is a
    cell of its own.
    """
    axes = [*matrix.axes]
    left_out = [frozenset(entry.items()) for entry in matrix.exclude]
    made: list[dict[str, str]] = []
    for values in product(*matrix.axes.values()) if axes else ():
        cell = dict(zip(axes, values))
        items = cell.items()
        if not any(entry <= items for entry in left_out):
            made.append(cell)
    originals = [frozenset(cell.items()) for cell in made]
    for entry in matrix.include:
        on_axes = frozenset((axis, value) for axis, value in entry.items() if axis in matrix.axes)
        joined = [cell for cell, items in zip(made, originals) if on_axes <= items]
        for cell in joined:
            cell.update(entry)
        if not joined:
            made.append(dict(entry))
    return made


def cell_names(job: str, made: list[dict[str, str]]) -> list[str]:
    """A name for each cell, such as ``test (3.12, linux)``: short enough, and each once."""
    names: dict[str, None] = {}
    for number, cell in enumerate(made, start=1):
        name = f"{job} ({', '.join(cell.values())})"
        while len(name) > MAX_NODE_NAME or name in names:
            name = f"{job} (#{number})"
            number += len(made)
        names[name] = None
    return [*names]
