"""The cost table: its units are measured, and the documentation has the computed costs."""

import json
from dataclasses import replace

import pytest
from django.conf import settings

from benchmarks import cost, units
from controlplane.infrastructure.schema import table_schemas
from controlplane.infrastructure.stages import ON_DEMAND, STAGES, Stage
from controlplane.infrastructure.template import stage_template
from tests.infrastructure.conftest import of_type


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


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_a_small_fleet_costs_at_most_15_dollars_on_demand_and_an_idle_stage_two_and_a_half(stage: Stage) -> None:
    on_demand = replace(stage, billing=ON_DEMAND)
    assert sum(cost.bill(cost.SMALL, on_demand, cost.REGION).values()) <= 15
    idle = cost.bill(cost.IDLE, on_demand, cost.REGION)
    assert sum(idle.values()) <= 2.5
    # Metrics and ten alarms fit into what is free, so only the two keys and the alarm of rotations cost something.
    assert len(of_type(stage_template(on_demand).to_dict(), "AWS::KMS::Key")) == cost.KEYS
    assert idle["CloudWatch, metrics"] == 0
    assert idle["CloudWatch, alarms"] == pytest.approx(0.10)


def test_provisioned_tables_are_billed_by_the_hour_with_the_alarms_that_scale_them() -> None:
    production = STAGES["production"]
    idle = cost.bill(cost.IDLE, production, cost.REGION)
    parts = len([part for part in cost.parts() if production.capacity(part.partition("/")[0])])
    assert idle["DynamoDB"] == pytest.approx(parts * 20 * (0.000793 + 0.0001586) * 730, rel=0.05)
    assert idle["CloudWatch, alarms"] == pytest.approx(parts * 2 * 4 * 0.1 + 0.1)


def test_the_documented_costs_are_the_computed_ones() -> None:
    documented = (settings.BASE_DIR / "docs" / "operations.md").read_text()
    for line in cost.tables():
        assert line in documented, f"make cost prints: {line}"
