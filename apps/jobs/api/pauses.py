"""The API that pauses and resumes pipelines."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.jobs.serializers.pauses import PauseSerializer
from apps.jobs.services import runs_resume
from apps.pipelines.services import pipeline_pause


class PipelinePauseView(APIView):
    @extend_schema(request=None, responses=PauseSerializer, operation_id="pipelines_pause")
    def post(self, request: Request, name: str) -> Response:
        """Pause the pipeline: the first jobs of new runs wait until it is resumed. Runs started before go on."""
        return Response(PauseSerializer(pipeline_pause(actor=request_actor(request), name=name)).data)


class PipelineResumeView(APIView):
    @extend_schema(request=None, responses=PauseSerializer, operation_id="pipelines_resume")
    def post(self, request: Request, name: str) -> Response:
        """Resume the pipeline and queue what waited for that: the oldest jobs at once, others within minutes."""
        return Response(PauseSerializer(runs_resume(actor=request_actor(request), pipeline=name)).data)
