"""The results of jobs that later runs may take instead of doing the same work again."""

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name


class JobResult(Record):
    """A job that succeeded with a digest of all that it depends on, the newest one of a branch."""

    class Meta(Record.Meta):
        table_name = table_name("job-results")

    # ``<pipeline>#<digest>``
    work = UnicodeAttribute(hash_key=True)
    # Runs of tags and commits leave no results. They take those of the default branch.
    branch = UnicodeAttribute(range_key=True)
    job_id = UnicodeAttribute()
    run_id = UnicodeAttribute()
    node = UnicodeAttribute()
    outputs = CompactJSONAttribute(null=True)
    # How long it took.
    seconds = NumberAttribute(default=0)
    expires_at = TTLAttribute()
