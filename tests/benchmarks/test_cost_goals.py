"""The bill by cause: it is the whole bill, and the documentation has it beside the goals."""

import pytest
from django.conf import settings

from benchmarks import cost_goals
from benchmarks.cost import PRICES, Load, bill, operations
from controlplane.infrastructure.stages import Stage


@pytest.mark.parametrize("region", PRICES)
@pytest.mark.parametrize("case", cost_goals.CASES, ids=lambda case: case[0])
def test_the_causes_are_together_the_bill(case: tuple[str, Load, Stage, float], region: str) -> None:
    _, load, stage, _ = case
    billed = bill(load, stage, region)
    assert billed["X-Ray"] == 0
    assert sum(cost_goals.causes(load, stage, region).values()) == pytest.approx(sum(billed.values()))


def test_every_operation_has_one_cause() -> None:
    named = [name for names in cost_goals._OPERATIONS.values() for name in names]
    assert sorted(named) == sorted(operations(cost_goals.CASES[0][1]))


def test_the_documented_goals_and_causes_are_the_computed_ones() -> None:
    documented = (settings.BASE_DIR / "docs" / "promises.md").read_text()
    for line in cost_goals.goals():
        assert line in documented, f"make cost prints: {line}"
