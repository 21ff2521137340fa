"""The record of a pipeline: which repository is built, and how."""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name

# There is one scope; teams would each get their own.
SCOPE = "default"


class Pipeline(Record):
    """A pipeline as people configured it. There are few (one a project), so one partition holds and lists them all."""

    class Meta(Record.Meta):
        table_name = table_name("pipelines")

    scope = UnicodeAttribute(hash_key=True, default_for_new=SCOPE)
    name = UnicodeAttribute(range_key=True)
    repository = UnicodeAttribute()
    default_ref = UnicodeAttribute()
    # YAML; None: each job reads the .hybrid-ci.yml of the repository.
    definition = UnicodeAttribute(null=True)
    # What the last known definition asks for: the one above, or the one that a job read at the default ref.
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    retries = NumberAttribute(null=True)
    timeout = NumberAttribute(null=True)
    # How often people have saved it.
    revision = NumberAttribute(default_for_new=1)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()
