"""How many slots are missing where agents may take jobs of several label sets."""

from collections.abc import Sequence
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.jobs.selectors.missing_slots import missing_slots

Waiting = Sequence[tuple[Sequence[str], int]]

LABELS = st.lists(st.sampled_from("abcd"), max_size=3, unique=True)
WAITING = st.lists(st.tuples(LABELS, st.integers(1, 9)), max_size=5, unique_by=lambda one: frozenset(one[0]))
FREE = st.lists(st.tuples(LABELS, st.integers(0, 5)), max_size=6)


@pytest.mark.parametrize(
    ("waiting", "free", "missing"),
    [
        pytest.param([(["gpu"], 3)], [], [3], id="no agent"),
        pytest.param([(["gpu"], 3)], [(["linux"], 4)], [3], id="no agent with the label"),
        pytest.param([(["gpu"], 3)], [(["gpu", "linux"], 1), (["gpu"], 1)], [1], id="too few slots"),
        pytest.param([(["gpu"], 3)], [(["gpu"], 9)], [0], id="more slots than jobs"),
        pytest.param([([], 2), (["gpu"], 2)], [(["gpu"], 2)], [2, 0], id="a slot counts once, for more labels first"),
        pytest.param([(["a"], 1), (["b"], 1)], [(["a", "b"], 1), (["a"], 1)], [0, 0], id="jobs make room for others"),
        pytest.param([([], 5)], [([], 2), (["gpu"], 2)], [1], id="any agent takes jobs without labels"),
        pytest.param([], [(["gpu"], 2)], [], id="nothing waits"),
    ],
)
def test_each_free_slot_is_for_one_job(waiting: Waiting, free: Waiting, missing: list[int]) -> None:
    assert missing_slots(waiting, free) == missing


@given(WAITING, FREE)
def test_in_all_as_few_slots_are_missing_as_can_be(waiting: Waiting, free: Waiting) -> None:
    """By König's theorem that is the worst shortage among all groups of label sets."""
    missing = missing_slots(waiting, free)
    groups = chain.from_iterable(combinations(waiting, size) for size in range(len(waiting) + 1))
    assert sum(missing) == max(_shortage(group, free) for group in groups)
    assert all(0 <= lacking <= jobs for lacking, (_, jobs) in zip(missing, waiting, strict=True))


@given(WAITING, FREE, st.randoms())
def test_the_order_of_label_sets_and_agents_does_not_matter(waiting: Waiting, free: Waiting, random: object) -> None:
    others = sorted(waiting, key=lambda _: random.random())  # type: ignore[attr-defined]
    agents = sorted(free, key=lambda _: random.random())  # type: ignore[attr-defined]
    before = {
        frozenset(labels): lacking for (labels, _), lacking in zip(waiting, missing_slots(waiting, free), strict=True)
    }
    after = {
        frozenset(labels): lacking for (labels, _), lacking in zip(others, missing_slots(others, agents), strict=True)
    }
    assert before == after


def _shortage(group: Waiting, free: Waiting) -> int:
    """How many jobs of these label sets have no slot, if they get all slots that any of them could use."""
    usable = sum(slots for offered, slots in free if any(set(labels) <= set(offered) for labels, _ in group))
    return sum(jobs for _, jobs in group) - usable
