"""Batches of what is iterated over."""

from controlplane.lib.batches import batched


def test_batches_have_the_size_but_for_the_last_one_and_keep_the_order() -> None:
    assert list(batched(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([1, 2], 2)) == [[1, 2]]
    assert list(batched([], 2)) == []
