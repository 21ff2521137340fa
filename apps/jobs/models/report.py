"""Test results and coverage that agents have reported."""

from pynamodb.attributes import BinaryAttribute, BooleanAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


def reports_stream(kind: str, pipeline: str) -> str:
    """The partition with all reports of a kind of a pipeline."""
    return f"{kind}#{pipeline}"


def report_place(run_id: str, job_id: str = "", attempt: int | None = None, number: int = 0) -> str:
    """Where a report is in its partition, or the beginning that those of a run or a job have in common.

    Runs' ids are in the order of their creation, so the newest run is the last one.
    """
    parts = [run_id, job_id] if job_id else [run_id]
    return "#".join([*parts, "" if attempt is None else f"{attempt:09}#{number:04}"])


class JobReport(Record):
    """One report of an attempt, written once. It serves the job's page, the run's and the lists of the pipeline.

    The names of the tests and their failures are compressed (`apps.jobs.reports.packing`).
    """

    class Meta(Record.Meta):
        table_name = table_name("job-reports")

    stream = UnicodeAttribute(hash_key=True)
    place = UnicodeAttribute(range_key=True)
    run_id = UnicodeAttribute()
    job_id = UnicodeAttribute()
    attempt = NumberAttribute()
    number = NumberAttribute()
    # The job's name in its run; empty where a run has one job.
    node = UnicodeAttribute(default="")
    git_ref = UnicodeAttribute()
    commit = UnicodeAttribute(null=True)
    # The report's path in the workspace.
    file = UnicodeAttribute()
    # SHA-256 of the report, by which a repeated request is known.
    digest = UnicodeAttribute()
    reported_at = UnicodeAttribute()
    # Of test results: how many tests there were and how they ended. Durations are in seconds.
    total = NumberAttribute(null=True)
    failed = NumberAttribute(null=True)
    skipped = NumberAttribute(null=True)
    flaky = NumberAttribute(null=True)
    seconds = NumberAttribute(null=True)
    cases = BinaryAttribute(legacy_encoding=False, null=True)
    failures = BinaryAttribute(legacy_encoding=False, null=True)
    # Whether `cases` or `failures` lack some.
    cut = BooleanAttribute(null=True)
    # Of coverage: a share from 0 to 1, and of how many lines, if the report says that.
    rate = NumberAttribute(null=True)
    lines_covered = NumberAttribute(null=True)
    lines_valid = NumberAttribute(null=True)
    # How many bytes `cases` and `failures` have.
    size = NumberAttribute(default=0)
    expires_at = TTLAttribute()
