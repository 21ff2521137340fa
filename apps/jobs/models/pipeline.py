"""The pipeline: which repository is built, and how."""

from pynamodb.attributes import ListAttribute, NumberAttribute, UnicodeAttribute

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
    # What the last definition known asks of a machine: this one, or the one that a job found in the repository.
    labels: ListAttribute[str] = ListAttribute(of=UnicodeAttribute, default=list)
    # Counts what people have saved.
    revision = NumberAttribute(default_for_new=1)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()
