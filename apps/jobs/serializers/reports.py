"""Test results and coverage as JSON, and the parameters of requests about them. Durations are in seconds."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.jobs.selectors import reports as selectors
from controlplane.http.drf_fields import ChoiceField, TextField

SORTS = ("slowest", "flaky")


class PipelineCoverageQuerySerializer(serializers.Serializer[Any]):
    """Which runs of a pipeline to look at."""

    git_ref = TextField(required=False, max_length=255, help_text="Only runs of this branch, tag or commit.")


class PipelineTestsQuerySerializer(PipelineCoverageQuerySerializer):
    """Which tests of a pipeline to list."""

    sort = ChoiceField(
        SORTS,
        required=False,
        default="slowest",
        help_text="The tests with the longest mean duration; or those that failed and passed on the same commit.",
    )


class CoverageSerializer(serializers.Serializer[Any]):
    """How much of the code the tests ran."""

    rate = serializers.FloatField(help_text="The share of lines, from 0 to 1.")
    lines_covered = serializers.IntegerField(allow_null=True)
    lines_valid = serializers.IntegerField(allow_null=True)


class TotalsSerializer(serializers.Serializer[Any]):
    """How many tests ran and how they ended."""

    total = serializers.IntegerField()
    passed = serializers.IntegerField(help_text="Also those that failed first and passed when they ran again.")
    failed = serializers.IntegerField()
    skipped = serializers.IntegerField()
    flaky = serializers.IntegerField(help_text="Those that failed first and passed when they ran again.")
    seconds = serializers.FloatField(help_text="The sum of their durations.")


class ReportFileSerializer(serializers.Serializer[Any]):
    """One report file of a job."""

    number = serializers.IntegerField()
    file = serializers.CharField(help_text="Its path in the workspace.")
    totals = TotalsSerializer()


class TestFailureSerializer(serializers.Serializer[Any]):
    """Why a test failed."""

    file = serializers.CharField()
    group = serializers.CharField(source="failure.group", help_text="Its class or package.")
    name = serializers.CharField(source="failure.name")
    seconds = serializers.FloatField(source="failure.seconds", allow_null=True)
    message = serializers.CharField(source="failure.message", help_text="One line.")
    details = serializers.CharField(source="failure.details", help_text="What the test runner printed, shortened.")


class JobTestsSerializer(serializers.Serializer[Any]):
    """The reports of the newest attempt that has some."""

    job_id = serializers.CharField()
    attempt = serializers.IntegerField(help_text="0 if no attempt has reported tests or coverage.")
    totals = TotalsSerializer()
    files = ReportFileSerializer(many=True)
    failures = TestFailureSerializer(many=True)
    cut = serializers.BooleanField(help_text="Whether some failures are only counted, since they are too many.")
    coverage = CoverageSerializer(allow_null=True)


class CaseHistorySerializer(serializers.Serializer[Any]):
    """One test over the last runs."""

    group = serializers.CharField(help_text="Its class or package.")
    name = serializers.CharField()
    runs = serializers.IntegerField(help_text="In how many runs it ran.")
    failed = serializers.IntegerField(help_text="How often it failed.")
    flaky = serializers.IntegerField(
        help_text="How often it both failed and passed on the same commit, or passed when it ran again."
    )
    seconds_mean = serializers.FloatField(allow_null=True)
    seconds_max = serializers.FloatField(allow_null=True)
    failed_job_id = serializers.CharField(allow_null=True, help_text="The newest job in which it failed or was flaky.")


class PipelineTestsSerializer(serializers.Serializer[Any]):
    """The slowest or the flaky tests of a pipeline."""

    runs = serializers.IntegerField(
        help_text=f"How many runs this is about: the newest ones with test reports, {selectors.LAST_RUNS} at most."
    )
    tests = CaseHistorySerializer(many=True)
    cut = serializers.BooleanField(help_text="Whether tests or runs were left out, since they are too many.")


class CoveragePointSerializer(serializers.Serializer[Any]):
    """The coverage of one run."""

    run_id = serializers.CharField()
    job_id = serializers.CharField()
    git_ref = serializers.CharField()
    commit = serializers.CharField(allow_null=True)
    at = serializers.CharField()
    coverage = CoverageSerializer()


class PipelineCoverageSerializer(serializers.Serializer[Any]):
    """The coverage of the last runs that reported it."""

    rate = serializers.SerializerMethodField()
    change = serializers.FloatField(
        allow_null=True, help_text="How much the newest share is above that of the run before."
    )
    runs = CoveragePointSerializer(many=True, source="points", help_text="The oldest first.")

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_rate(self, trend: selectors.CoverageTrend) -> float | None:
        """The share of lines in the newest run, from 0 to 1."""
        return trend.latest.coverage.rate if trend.latest else None
