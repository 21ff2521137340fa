"""The cost table: its units are measured, and the documentation has the computed costs."""

import json

import pytest
from django.conf import settings

from benchmarks import cost, units
from controlplane.infrastructure.schema import table_schemas


def test_the_units_are_those_that_the_operations_use(tables: None) -> None:
    measured, kept = units.measure(), json.loads(units.FILE.read_text())
    assert measured.keys() == kept.keys()
    for operation, parts in measured.items():
        assert parts == {name: pytest.approx(used, abs=0.5) for name, used in kept[operation].items()}, operation


def test_every_operation_of_the_month_is_measured() -> None:
    assert cost.operations(cost.SMALL).keys() == json.loads(units.FILE.read_text()).keys()
    parts = {table.name for table in table_schemas()} | {
        f"{table.name}/{index.name}" for table in table_schemas() for index in table.indexes
    }
    assert set(cost.units_used(cost.operations(cost.SMALL))) <= parts


def test_the_documented_costs_are_the_computed_ones() -> None:
    documented = (settings.BASE_DIR / "docs" / "operations.md").read_text()
    for line in cost.tables():
        assert line in documented, f"make cost prints: {line}"
