"""The pipeline: which repository is built, and how."""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, UnicodeAttribute

from apps.pipelines.definitions import definition_parse
from controlplane.nosql.record import Record, table_name

# The one scope there is; teams of their own would get theirs.
SCOPE = "default"


class Pipeline(Record):
    """What people configure. There are as many as there are projects, so one partition holds and lists them."""

    class Meta(Record.Meta):
        table_name = table_name("pipelines")

    scope = UnicodeAttribute(hash_key=True, default_for_new=SCOPE)
    name = UnicodeAttribute(range_key=True)
    repository = UnicodeAttribute()
    default_ref = UnicodeAttribute()
    # YAML; None when the repository's own .hybrid-ci.yml holds.
    definition = UnicodeAttribute(null=True)
    # Of the last definition known: this one, or the one that a job found at the repository's default ref.
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    retries = NumberAttribute(null=True)
    timeout = NumberAttribute(null=True)
    # Counts what people have saved.
    revision = NumberAttribute(default_for_new=1)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()

    def definition_parsed(self) -> dict[str, Any] | None:
        """The definition as `Definition.as_dict` gives it, or None when only the repository has it."""
        return definition_parse(self.definition).as_dict() if self.definition else None
