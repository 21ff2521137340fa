"""The steps from a stack's current template to the wanted one.

DynamoDB creates or deletes one index of a table at a time, and CloudFormation rolls an update back that changes two at
once. So an update takes as many steps as the table with the most index changes needs.
"""

import copy
from typing import Any

_TABLE = "AWS::DynamoDB::Table"
_INDEXES = "GlobalSecondaryIndexes"

Body = dict[str, Any]


def next_step(current: Body, wanted: Body) -> Body:
    """`wanted`, but with at most one index change for each table of `current`.

    An index whose declaration changed is deleted in one step and created in the next.
    """
    step = copy.deepcopy(wanted)
    for logical_id, resource in wanted["Resources"].items():
        if resource["Type"] == _TABLE and logical_id in current["Resources"]:
            properties = step["Resources"][logical_id]["Properties"]
            postponed = _postpone(current["Resources"][logical_id]["Properties"], properties)
            if postponed:
                _scaling_remove(step, logical_id, postponed)
    return step


def _postpone(current: Body, properties: Body) -> set[str]:
    """Change `properties` so that at most one index differs. Returns the names of wanted indexes that must wait."""
    old = {index["IndexName"]: index for index in current.get(_INDEXES, ())}
    new = {index["IndexName"]: index for index in properties.get(_INDEXES, ())}
    gone = [name for name in old if name not in new or _shape(old[name]) != _shape(new[name])]
    missing = [name for name in new if name not in old]
    if gone:
        kept = {name: new.get(name, index) if name not in gone else index for name, index in old.items()}
        del kept[gone[0]]
    elif missing:
        kept = {name: index for name, index in new.items() if name in old or name == missing[0]}
    else:
        return set()
    properties[_INDEXES] = list(kept.values())
    if not kept:
        del properties[_INDEXES]
    used = {part["AttributeName"] for index in (properties, *kept.values()) for part in index["KeySchema"]}
    known = {
        entry["AttributeName"]: entry
        for entry in (*current["AttributeDefinitions"], *properties["AttributeDefinitions"])
    }
    properties["AttributeDefinitions"] = [known[name] for name in sorted(used)]
    return set(new) - set(kept)


def _shape(index: Body) -> tuple[Any, Any]:
    """The parts of an index that cannot be changed in place, unlike its capacity."""
    return index["KeySchema"], index["Projection"]


def _scaling_remove(step: Body, table: str, indexes: set[str]) -> None:
    """Remove the scaling of indexes that do not exist yet."""
    resources = step["Resources"]
    ids = {f"table/${{{table}}}/index/{index}" for index in indexes}
    targets = {
        logical_id
        for logical_id, resource in resources.items()
        if resource["Properties"].get("ResourceId", {}) in [{"Fn::Sub": text} for text in ids]
    }
    policies = {
        logical_id
        for logical_id, resource in resources.items()
        if resource["Properties"].get("ScalingTargetId", {}).get("Ref") in targets
    }
    for logical_id in targets | policies:
        del resources[logical_id]
