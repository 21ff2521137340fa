"""Test results and coverage for people's programs: of a job, and of a pipeline's last runs."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors import job_get, job_tests, pipeline_coverage, pipeline_tests
from apps.jobs.serializers.reports import (
    JobTestsSerializer,
    PipelineCoverageQuerySerializer,
    PipelineCoverageSerializer,
    PipelineTestsQuerySerializer,
    PipelineTestsSerializer,
)
from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.selectors import pipeline_get
from controlplane.http.requests import query_validated

_name_parameter = OpenApiParameter(
    "name", {"type": "string", "pattern": f"^{PIPELINE_NAME.pattern}$"}, OpenApiParameter.PATH
)


class JobTestsView(APIView):
    @extend_schema(responses=JobTestsSerializer, operation_id="jobs_tests")
    def get(self, request: Request, job_id: str) -> Response:
        """The test results and the coverage of the job, with the message of each failure. They are kept for 90 days."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        return Response(JobTestsSerializer(job_tests(job_get(job_id))).data)


class PipelineTestsView(APIView):
    @extend_schema(
        parameters=[_name_parameter, PipelineTestsQuerySerializer],
        responses=PipelineTestsSerializer,
        operation_id="pipelines_tests",
    )
    def get(self, request: Request, name: str) -> Response:
        """The slowest or the flaky tests of the pipeline over its last 50 runs with test reports."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, PipelineTestsQuerySerializer)
        sort = query.pop("sort")
        found = pipeline_tests(pipeline_get(name).name, **query)
        return Response(PipelineTestsSerializer({**vars(found), "tests": getattr(found, sort)}).data)


class PipelineCoverageView(APIView):
    @extend_schema(
        parameters=[_name_parameter, PipelineCoverageQuerySerializer],
        responses=PipelineCoverageSerializer,
        operation_id="pipelines_coverage",
    )
    def get(self, request: Request, name: str) -> Response:
        """The coverage of the pipeline's last 50 runs that reported it."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, PipelineCoverageQuerySerializer)
        return Response(PipelineCoverageSerializer(pipeline_coverage(pipeline_get(name).name, **query)).data)
