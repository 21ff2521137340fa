"""The API of schedules: ``/pipelines/{name}/schedules`` and ``/schedules/{schedule_id}``."""

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors.runs import runs_last
from apps.jobs.serializers.schedules import (
    PipelineScheduleSerializer,
    PipelineSchedulesSerializer,
    ScheduleChangeSerializer,
    ScheduleCreateSerializer,
)
from apps.pipelines.policies import schedule_save_require
from apps.pipelines.selectors import Schedule, pipeline_get, schedule_get, schedule_list
from apps.pipelines.services import (
    schedule_change,
    schedule_create,
    schedule_delete,
    schedule_pause,
    schedule_resume,
)
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated

_id_parameter = OpenApiParameter("schedule_id", {"type": "string", "maxLength": 127}, OpenApiParameter.PATH)
# The parameters have up to 50 KB, of which JSON may escape each byte.
_BODY_LIMIT = 400 * 1024


class PipelineSchedulesView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(responses=PipelineSchedulesSerializer, operation_id="schedules_list")
    def get(self, request: Request, name: str) -> Response:
        """List the schedules of a pipeline by name, each with its next three times."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        schedules = schedule_list(str(pipeline_get(name).name))
        return Response(PipelineSchedulesSerializer({"schedules": schedules}, context=_context(schedules)).data)

    @extend_schema(
        request=ScheduleCreateSerializer,
        responses={201: PipelineScheduleSerializer, **problems(409)},
        operation_id="schedules_create",
    )
    def post(self, request: Request, name: str) -> Response:
        """Start runs of the pipeline at certain times."""
        schedule_save_require(request_actor(request))
        members = body_validated(request.data, ScheduleCreateSerializer)
        schedule = schedule_create(actor=request_actor(request), pipeline=name, **members)
        return Response(_shown(schedule), status=201)


class ScheduleView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(parameters=[_id_parameter], responses=PipelineScheduleSerializer, operation_id="schedules_get")
    def get(self, request: Request, schedule_id: str) -> Response:
        """Get one schedule, with its next three times."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        return Response(_shown(schedule_get(schedule_id)))

    @extend_schema(
        parameters=[_id_parameter],
        request=ScheduleChangeSerializer,
        responses={200: PipelineScheduleSerializer, **problems(409)},
        operation_id="schedules_change",
    )
    def patch(self, request: Request, schedule_id: str) -> Response:
        """Change a schedule. What is left out stays."""
        schedule_save_require(request_actor(request))
        members = body_validated(request.data, ScheduleChangeSerializer)
        return Response(_shown(schedule_change(actor=request_actor(request), schedule_id=schedule_id, **members)))

    @extend_schema(parameters=[_id_parameter], responses={204: None}, operation_id="schedules_delete")
    def delete(self, request: Request, schedule_id: str) -> Response:
        """Delete a schedule. The runs that it has started stay."""
        schedule_delete(actor=request_actor(request), schedule_id=schedule_id)
        return Response(status=204)


class SchedulePauseView(APIView):
    @extend_schema(
        parameters=[_id_parameter], request=None, responses=PipelineScheduleSerializer, operation_id="schedules_pause"
    )
    def post(self, request: Request, schedule_id: str) -> Response:
        """Start no runs by this schedule until it is resumed."""
        return Response(_shown(schedule_pause(actor=request_actor(request), schedule_id=schedule_id)))


class ScheduleResumeView(APIView):
    @extend_schema(
        parameters=[_id_parameter], request=None, responses=PipelineScheduleSerializer, operation_id="schedules_resume"
    )
    def post(self, request: Request, schedule_id: str) -> Response:
        """Start runs again, from the next time on. Those that came during the pause are left out."""
        return Response(_shown(schedule_resume(actor=request_actor(request), schedule_id=schedule_id)))


def _shown(schedule: Schedule) -> Any:
    return PipelineScheduleSerializer(schedule, context=_context([schedule])).data


def _context(schedules: Sequence[Schedule]) -> dict[str, Any]:
    return {"statuses": runs_last(schedule.last_run_id for schedule in schedules)}
