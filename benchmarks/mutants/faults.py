"""The faults that are planted: cosmic-ray's, and two of our own that its operators lack."""

import ast
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    exception_replacer,
    number_replacer,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from cosmic_ray.operators.operator import Operator

Place = tuple[tuple[int, int], tuple[int, int]]

# Of the replacements of one operator by another, those that a person could have mistyped. The others, such as `==` by
# `is`, mostly change nothing or break at once.
_LIKELY = {
    *("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt", "Is_IsNot", "IsNot_Is"),
    *("BitAnd_BitOr", "BitOr_BitAnd", "Add_Sub", "Sub_Add", "Mul_Div", "Delete_Not"),
}


class StatementDeletion(Operator):  # type: ignore[misc]
    """Deletes a statement that only calls something, or raises. Lines of a log are no behaviour, so they stay."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        if node.type == "simple_stmt" and self._deletable(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002 — the base's own
        nothing = get_ast("pass").children[0]
        nothing.prefix = node.get_first_leaf().prefix
        node.children[0] = nothing
        return node

    @staticmethod
    def _deletable(statement: Any) -> bool:
        if statement.type == "raise_stmt":
            return True
        called = statement.type == "atom_expr" and statement.children[-1].get_code().startswith("(")
        return bool(called) and not statement.get_code(include_prefix=False).startswith(("logger.", "warnings."))

    @classmethod
    def examples(cls) -> Iterable[Any]:
        return ()


class ConditionDeletion(Operator):  # type: ignore[misc]
    """Deletes the keyword argument `condition` of a call: the write happens whatever the item is now."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        if node.type == "argument" and node.children[0].get_code().strip() == "condition":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002 — the base's own
        node.children[2] = get_ast("None").children[0]
        return node

    @classmethod
    def examples(cls) -> Iterable[Any]:
        return ()


@dataclass(frozen=True)
class Fault:
    """One change of a module's text: the `occurrence`-th place of an operator. `line` counts from 1."""

    operator: type[Operator]
    occurrence: int
    line: int

    def planted(self, source: str) -> str:
        """The text with the fault."""
        changed = MutationVisitor.mutate_code(source, self.operator(), self.occurrence)
        if changed is None:
            raise LookupError(f"{self.operator.__name__} has no place {self.occurrence}")
        return str(changed)


def faults_of(source: str) -> list[Fault]:
    """All faults that can be planted in a module's text."""
    skipped = list(_not_behaviour(ast.parse(source)))
    tree = get_ast(source)
    found = []
    for operator in _operators():
        places = _Places(operator())
        places.walk(tree)
        for occurrence, (start, end) in enumerate(places.found):
            if not any(first <= start and end <= last for first, last in skipped):
                found.append(Fault(operator, occurrence, start[0]))
    return found


def faults_chosen(source: str, *, most: int, seed: str) -> list[Fault]:
    """At most so many of them, by chance: the same seed chooses the same ones. Two in a line are avoided."""
    faults = faults_of(source)
    random.Random(seed).shuffle(faults)
    by_line = {fault.line: fault for fault in reversed(faults)}
    first = list(by_line.values())
    random.Random(seed).shuffle(first)
    rest = [fault for fault in faults if by_line[fault.line] is not fault]
    return [*first, *rest][:most]


class _Places(Visitor):  # type: ignore[misc]
    """Collects where an operator could change a tree, in the order in which it counts them."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.found: list[Place] = []

    def visit(self, node: Any) -> Any:
        self.found += self.operator.mutation_positions(node)
        return node


def _operators() -> Iterator[type[Operator]]:
    replacements = (binary_operator_replacement, comparison_operator_replacement, unary_operator_replacement)
    for module in replacements:
        for operator in module.operators():
            if operator.__name__.partition("_")[2] in _LIKELY:
                yield operator
    yield boolean_replacer.AddNot
    yield boolean_replacer.ReplaceTrueWithFalse
    yield boolean_replacer.ReplaceFalseWithTrue
    yield boolean_replacer.ReplaceAndWithOr
    yield boolean_replacer.ReplaceOrWithAnd
    yield break_continue.ReplaceBreakWithContinue
    yield break_continue.ReplaceContinueWithBreak
    yield exception_replacer.ExceptionReplacer
    yield number_replacer.NumberReplacer
    yield zero_iteration_for_loop.ZeroIterationForLoop
    yield StatementDeletion
    yield ConditionDeletion


def _not_behaviour(tree: ast.Module) -> Iterator[Place]:
    """Signatures, decorators, and what a module or a class sets: names, types, limits and defaults."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.decorator_list[0] if node.decorator_list else node
            yield (first.lineno, first.col_offset), (node.body[0].lineno, node.body[0].col_offset)
        elif isinstance(node, ast.AnnAssign):
            yield _place(node.annotation)
        if isinstance(node, ast.Module | ast.ClassDef):
            yield from (_place(part) for part in node.body if isinstance(part, ast.Assign | ast.AnnAssign))
        if isinstance(node, ast.ClassDef):
            yield from (_place(decorator) for decorator in node.decorator_list)


def _place(node: ast.expr | ast.stmt) -> Place:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
