"""DynamoDB changes one index of a table at a time, so an update takes several steps."""

import copy
from typing import Any

import pytest

from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.steps import next_step
from controlplane.infrastructure.template import stage_template
from tests.infrastructure.conftest import Body

TABLE = "JobsTable"


@pytest.fixture
def wanted() -> Body:
    body: Body = stage_template(STAGES["production"]).to_dict()
    return copy.deepcopy(body)


def without_indexes(body: Body, *names: str) -> Body:
    """The template of an earlier version, in which the table lacks these indexes."""
    earlier = copy.deepcopy(body)
    table = earlier["Resources"][TABLE]["Properties"]
    table["GlobalSecondaryIndexes"] = [
        index for index in table["GlobalSecondaryIndexes"] if index["IndexName"] not in names
    ]
    keyed = (table, *table["GlobalSecondaryIndexes"])
    used = {part["AttributeName"] for entry in keyed for part in entry["KeySchema"]}
    table["AttributeDefinitions"] = [entry for entry in table["AttributeDefinitions"] if entry["AttributeName"] in used]
    return earlier


def indexes(body: Body) -> set[str]:
    table = body["Resources"][TABLE]["Properties"]
    return {index["IndexName"] for index in table.get("GlobalSecondaryIndexes", ())}


def all_steps(current: Body, wanted: Body) -> list[Body]:
    found = []
    while current != wanted:
        current = next_step(current, wanted)
        found.append(current)
        assert len(found) < 20
    return found


def changes(before: Body, after: Body) -> int:
    def known(body: Body) -> dict[str, Any]:
        properties = body["Resources"][TABLE]["Properties"]
        return {index["IndexName"]: index for index in properties.get("GlobalSecondaryIndexes", ())}

    old, new = known(before), known(after)
    return sum(old.get(name) != new.get(name) for name in {*old, *new})


def test_one_new_index_is_created_in_one_step(wanted: Body) -> None:
    assert next_step(without_indexes(wanted, "by_agent"), wanted) == wanted


def test_several_indexes_are_created_and_deleted_one_by_one(wanted: Body) -> None:
    for before, after in [
        (without_indexes(wanted, "by_agent", "by_day", "by_open"), wanted),
        (wanted, without_indexes(wanted, "by_agent", "by_day", "by_open")),
        (without_indexes(wanted, "by_agent"), without_indexes(wanted, "by_day")),
    ]:
        current = before
        for step in all_steps(before, after):
            assert changes(current, step) == 1
            current = step


def test_a_changed_index_is_deleted_before_it_is_created_again(wanted: Body) -> None:
    current = copy.deepcopy(wanted)
    current["Resources"][TABLE]["Properties"]["GlobalSecondaryIndexes"][0]["Projection"] = {"ProjectionType": "ALL"}
    name = current["Resources"][TABLE]["Properties"]["GlobalSecondaryIndexes"][0]["IndexName"]
    first, second = all_steps(current, wanted)
    assert indexes(first) == indexes(wanted) - {name}
    assert second == wanted


def test_each_step_defines_exactly_the_attributes_of_its_keys(wanted: Body) -> None:
    for step in all_steps(without_indexes(wanted, "by_agent", "by_day", "by_open"), wanted):
        table = step["Resources"][TABLE]["Properties"]
        used = {
            part["AttributeName"] for entry in (table, *table["GlobalSecondaryIndexes"]) for part in entry["KeySchema"]
        }
        assert {entry["AttributeName"] for entry in table["AttributeDefinitions"]} == used


def test_an_index_that_does_not_exist_yet_has_no_scaling(wanted: Body) -> None:
    for step in all_steps(without_indexes(wanted, "by_agent", "by_day"), wanted):
        scaled = {
            resource["Properties"]["ResourceId"]["Fn::Sub"].rpartition("/")[2]
            for resource in step["Resources"].values()
            if resource["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"
            and resource["Properties"]["ResourceId"]["Fn::Sub"].startswith(f"table/${{{TABLE}}}/index/")
        }
        assert scaled == indexes(step)
        references = [
            resource["Properties"]["ScalingTargetId"]["Ref"]
            for resource in step["Resources"].values()
            if resource["Type"] == "AWS::ApplicationAutoScaling::ScalingPolicy"
        ]
        assert set(references) <= set(step["Resources"])


def test_capacity_of_all_indexes_changes_in_one_step(wanted: Body) -> None:
    current: Body = copy.deepcopy(stage_template(STAGES["staging"]).to_dict())
    for resource in current["Resources"].values():
        if resource["Type"] == "AWS::DynamoDB::Table":
            resource["Properties"]["TableName"] = resource["Properties"]["TableName"].replace("staging", "production")
    assert next_step(current, wanted) == wanted
