"""Frozen dataclasses that share their methods, for the modules that a start of the process loads.

`dataclasses` writes and compiles up to six functions for each class, which takes half a millisecond: the sixty classes
of a start were a tenth of it. What is made here takes a twentieth of that.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


class _Shape:
    """The fields of a class as its instances need them."""

    __slots__ = ("compared", "defaults", "factories", "names", "order", "shown")

    def __init__(self, found: tuple[Field[Any], ...]) -> None:
        # Those that may be given by their place.
        self.order = tuple(each.name for each in found if not each.kw_only)
        self.names = frozenset(each.name for each in found)
        self.shown = tuple(each.name for each in found if each.repr)
        self.compared = tuple(each.name for each in found if each.compare)
        self.defaults = {each.name: each.default for each in found if each.default is not MISSING}
        self.factories: dict[str, Callable[[], Any]] = {
            each.name: each.default_factory for each in found if each.default_factory is not MISSING
        }


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make of `cls` what ``@dataclass(frozen=True)`` makes of it.

    `replace`, `asdict`, `fields`, patterns, defaults, default factories and ``KW_ONLY`` work as usual, and so do
    ``repr=False`` and ``compare=False`` of a field. Each field is an argument of the constructor; there is no
    ``__post_init__``.
    """
    # Without a text, `dataclasses` would make one of the signature.
    cls.__doc__ = cls.__doc__ or cls.__name__
    made = dataclass(init=False, repr=False, eq=False)(cls)
    made._shape = _Shape(fields(made))  # type: ignore[attr-defined, arg-type]
    for name, method in _METHODS.items():
        if name not in cls.__dict__:
            setattr(made, name, method)
    return made


def _init(self: Any, *arguments: Any, **given: Any) -> None:
    shape: _Shape = self._shape
    if arguments:
        named = dict(zip(shape.order, arguments, strict=False))
        if len(arguments) > len(named) or named.keys() & given.keys():
            raise TypeError(f"{type(self).__name__} takes in this order, each once: {', '.join(shape.order)}")
        given.update(named)
    state = self.__dict__
    state.update(shape.defaults)
    state.update(given)
    for name, factory in shape.factories.items():
        if name not in state:
            state[name] = factory()
    if state.keys() != shape.names:
        wrong = ", ".join(sorted(state.keys() ^ shape.names))
        raise TypeError(f"{type(self).__name__}: missing or unknown arguments: {wrong}")


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shape.shown)
    return f"{type(self).__qualname__}({shown})"


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self._shape.compared)


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(self: Any, name: str, _value: Any) -> None:
    raise FrozenInstanceError(f"{type(self).__name__} is frozen: cannot assign to {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"{type(self).__name__} is frozen: cannot delete {name!r}")


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
