"""The record of a pipeline: which repository is built, and how."""

from typing import Any

from pynamodb.attributes import BooleanAttribute, ListAttribute, NumberAttribute, UnicodeAttribute

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
    # The labels of that definition. They count only with one: earlier versions kept here what agents had reported.
    definition_labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list, attr_name="labels")
    # The labels that people have given a pipeline whose definition is in the repository.
    own_labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # Everyone may see its badge, also without signing in.
    badge = BooleanAttribute(null=True)
    # The connection whose events start its runs, and the full name of its repository there: acme/shop.
    source = UnicodeAttribute(null=True)
    source_repository = UnicodeAttribute(null=True)
    # The secret with a token or a private key, by which agents fetch the repository.
    fetch_secret = UnicodeAttribute(null=True)
    # How often people have saved it.
    revision = NumberAttribute(default_for_new=1)
    # When the last pause began and ended, and the name of the user who began it.
    pause_at = UnicodeAttribute(null=True)
    pause_by = UnicodeAttribute(null=True)
    pause_ended_at = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()

    @property
    def paused_at(self) -> str | None:
        """Since when it is paused; None if it is not."""
        return self.pause_at if not self.pause_ended_at else None

    @property
    def paused_by(self) -> str | None:
        """The name of the user who paused it; None if it is not paused."""
        return self.pause_by if self.paused_at else None

    @property
    def fetch_with(self) -> str | None:
        """With what agents fetch: ``secret:NAME``, ``source:connection``, or None for what their machines have."""
        if self.fetch_secret:
            return f"secret:{self.fetch_secret}"
        return f"source:{self.source}" if self.source else None

    @property
    def labels(self) -> list[str]:
        """The labels that each job requires from the start. The repository's file cannot change them."""
        return list(self.definition_labels if self.definition else self.own_labels)


class PipelineBinding(Record):
    """That a pipeline is bound to a repository of a connection, so that the repository's events find it by one query.

    The pipeline itself says whether it still is: a row may be left over.
    """

    class Meta(Record.Meta):
        table_name = table_name("pipelines")

    # See `binding_scope`.
    scope = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute(range_key=True)


def binding_scope(source: str, repository: str) -> str:
    """The partition of the pipelines that are bound to a repository. Providers ignore the case of its letters."""
    return f"source#{source}#{repository.lower()}"
