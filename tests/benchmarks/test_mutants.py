"""The faults that `make mutants` plants."""

from benchmarks.mutants.faults import faults_chosen, faults_of
from benchmarks.mutants.modules import mirrored_tests, planted_modules

SOURCE = """
LIMIT = 5


@cache
def allowed(user: str | None, *, tries: int = 3) -> bool:
    if tries < LIMIT and user:
        logger.info("allowed")
        return True
    for _ in range(2):
        row_write(user, condition=Row.tries == tries)
    raise Forbidden
"""


def planted(operator: str) -> list[str]:
    """The texts that the faults of an operator make of the function's lines that they change."""
    lines = SOURCE.splitlines()
    changed = []
    for fault in faults_of(SOURCE):
        if fault.operator.__name__ == operator:
            others = fault.planted(SOURCE).splitlines()
            changed += [new.strip() for old, new in zip(lines, others, strict=True) if old != new]
    return changed


def test_statements_are_deleted_but_not_lines_of_the_log() -> None:
    assert planted("StatementDeletion") == ["pass", "pass"]


def test_conditions_of_writes_are_deleted() -> None:
    assert planted("ConditionDeletion") == ["row_write(user, condition=None)"]


def test_comparisons_and_connectives_are_changed() -> None:
    assert "if tries <= LIMIT and user:" in planted("ReplaceComparisonOperator_Lt_LtE")
    assert planted("ReplaceAndWithOr") == ["if tries < LIMIT or user:"]


def test_signatures_types_and_limits_keep_what_they_are() -> None:
    assert {fault.line for fault in faults_of(SOURCE)} == {7, 9, 10, 11, 12}


def test_the_same_seed_chooses_the_same_faults() -> None:
    chosen = faults_chosen(SOURCE, most=4, seed="a")
    assert chosen == faults_chosen(SOURCE, most=4, seed="a")
    assert chosen != faults_chosen(SOURCE, most=4, seed="b")
    assert len({fault.line for fault in chosen}) == 4


def test_every_module_that_gets_faults_has_tests_of_its_name() -> None:
    assert all(mirrored_tests(module) for module in planted_modules())
