"""Batches of what is iterated over, as `itertools.batched` of Python 3.12 has them."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` of the values, in their order."""
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
