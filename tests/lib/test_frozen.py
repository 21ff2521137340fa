"""Frozen dataclasses with shared methods behave as those of the standard library."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import KW_ONLY, FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from controlplane.lib.frozen import frozen


@frozen
class Ours:
    x: int
    y: int
    label: str = ""
    tags: list[str] = field(default_factory=list, repr=False)
    read_at: int = field(default=0, compare=False)
    _: KW_ONLY
    place: str = "here"


@dataclass(frozen=True)
class Theirs:
    x: int
    y: int
    label: str = ""
    tags: list[str] = field(default_factory=list, repr=False)
    read_at: int = field(default=0, compare=False)
    _: KW_ONLY
    place: str = "here"


@pytest.fixture(params=[Ours, Theirs], ids=["shared methods", "the standard library's"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_arguments_are_given_by_place_and_by_name_with_defaults(kind: Any) -> None:
    one, two = kind(1, y=2), kind(x=1, y=2, label="a", tags=["t"], read_at=3)
    assert (one.x, one.y, one.label, one.tags, one.read_at) == (1, 2, "", [], 0)
    assert kind(1, 2, place="there").place == "there"
    assert (two.x, two.y, two.label, two.tags, two.read_at) == (1, 2, "a", ["t"], 3)
    assert kind(1, 2).tags is not kind(1, 2).tags


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(1),
        lambda kind: kind(x=1),
        lambda kind: kind(1, 2, z=3),
        lambda kind: kind(1, x=1, y=2),
        lambda kind: kind(1, 2, "", [], 0, 6),
        lambda kind: kind(x=1, z=2),
    ],
    ids=["too few", "too few by name", "unknown", "twice", "too many", "unknown for another"],
)
def test_wrong_arguments_are_refused(kind: Any, make: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        make(kind)


def test_nothing_can_be_changed(kind: Any) -> None:
    made = kind(1, 2)
    for name in ("x", "other"):
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, 2)
    with pytest.raises(FrozenInstanceError):
        del made.x
    assert made == kind(1, 2)


def test_equality_and_hash_are_those_of_the_compared_fields(kind: Any) -> None:
    assert kind(1, 2, read_at=1) == kind(1, 2, read_at=2)
    assert kind(1, 2) != kind(2, 1)
    assert kind(1, 2) != (1, 2)
    assert kind(1, 2) != (Theirs if kind is Ours else Ours)(1, 2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind(1, 2))
    assert hash(kind(1, 2, tags=())) == hash(kind(1, 2, tags=(), read_at=5))


def test_a_repr_hides_what_its_field_hides(kind: Any) -> None:
    assert repr(kind(1, 2, tags=["secret"])) == f"{kind.__name__}(x=1, y=2, label='', read_at=0, place='here')"


def test_the_functions_of_dataclasses_and_patterns_work(kind: Any) -> None:
    made = kind(1, 2)
    assert kind.__match_args__ == ("x", "y", "label", "tags", "read_at")
    assert is_dataclass(type(made))
    assert [each.name for each in fields(kind)] == ["x", "y", "label", "tags", "read_at", "place"]
    assert asdict(made) == {"x": 1, "y": 2, "label": "", "tags": [], "read_at": 0, "place": "here"}
    assert replace(made, x=2) == kind(2, 2)


def test_copies_are_equal(kind: Any) -> None:
    made = kind(1, 2, tags=["t"])
    assert made == copy.copy(made) == copy.deepcopy(made) == pickle.loads(pickle.dumps(made))
