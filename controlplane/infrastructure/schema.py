"""The schemas of the tables, as the records declare them, in CloudFormation's terms."""

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from pynamodb.attributes import TTLAttribute

from controlplane.infrastructure.names import PROJECT
from controlplane.nosql.record import Record
from controlplane.nosql.tables import record_tables

_KEY_TYPES = ("HASH", "RANGE")


@dataclass(frozen=True)
class IndexSchema:
    """A global secondary index. `key` has the name of its hash attribute and, if it has one, of its range attribute."""

    name: str
    key: tuple[str, ...]
    projection: str
    attributes: tuple[str, ...] = ()


@dataclass
class TableSchema:
    """A table. `name` is the part of its full name that all stages share; `types` are those of its key attributes."""

    name: str
    key: tuple[str, ...]
    types: dict[str, str]
    indexes: list[IndexSchema] = field(default_factory=list)
    ttl: str | None = None

    @property
    def logical_id(self) -> str:
        """Its name in the template. CloudFormation would replace a table whose logical id changes."""
        return "".join(part.title() for part in self.name.split("-")) + "Table"

    def full_name(self, stage: str) -> str:
        """The name that `controlplane.nosql.record.table_name` makes in the stage."""
        return f"{PROJECT}-{self.name}-{stage}"


def table_schemas() -> list[TableSchema]:
    """Every table that a record declares, by name. Raises ValueError when two records of a table contradict."""
    return sorted((_schema(name, kinds) for name, kinds in record_tables().items()), key=lambda table: table.name)


def _schema(full_name: str, kinds: list[type[Record]]) -> TableSchema:
    name = full_name.removeprefix(f"{PROJECT}-").removesuffix(f"-{settings.STAGE}")
    schemas: list[Any] = [kind._get_schema() for kind in kinds]
    keys = {_key(schema) for schema in schemas}
    ttls = {attribute.attr_name for kind in kinds for attribute in _ttl_attributes(kind)}
    if len(keys) > 1 or len(ttls) > 1:
        raise ValueError(f"The records of {name} disagree about its key or its TTL.")
    types: dict[str, str] = {}
    indexes: dict[str, IndexSchema] = {}
    for schema in schemas:
        if schema["local_secondary_indexes"]:
            raise ValueError(
                f"{name} has a local index, which is not supported here: it would limit each partition to 10 GB."
            )
        for part in (schema, *schema["global_secondary_indexes"]):
            types.update({entry["AttributeName"]: entry["AttributeType"] for entry in part["attribute_definitions"]})
        for declared in schema["global_secondary_indexes"]:
            index = _index(declared)
            if indexes.setdefault(index.name, index) != index:
                raise ValueError(f"The records of {name} disagree about its index {index.name}.")
    return TableSchema(
        name=name,
        key=keys.pop(),
        types=types,
        indexes=[indexes[index] for index in sorted(indexes)],
        ttl=ttls.pop() if ttls else None,
    )


def _ttl_attributes(kind: type[Record]) -> list[TTLAttribute]:
    return [attribute for attribute in kind.get_attributes().values() if isinstance(attribute, TTLAttribute)]


def _index(declared: dict[str, Any]) -> IndexSchema:
    projection = declared["projection"]
    return IndexSchema(
        name=declared["index_name"],
        key=_key(declared),
        projection=projection["ProjectionType"],
        attributes=tuple(projection.get("NonKeyAttributes", ())),
    )


def _key(schema: Any) -> tuple[str, ...]:
    parts = {part["KeyType"]: part["AttributeName"] for part in schema["key_schema"]}
    return tuple(parts[kind] for kind in _KEY_TYPES if kind in parts)
