"""The endpoints ``/runs`` for people's programs."""

from typing import Any

from django.urls import get_script_prefix
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.api.jobs import IDEMPOTENCY_HEADER, idempotency_key
from apps.jobs.selectors import first_waits, run_jobs, run_list, run_view, run_waits
from apps.jobs.selectors.run_checks import run_checks
from apps.jobs.selectors.runs import run_statuses
from apps.jobs.serializers.runs import (
    RunCreatedSerializer,
    RunCreateQuerySerializer,
    RunCreateSerializer,
    RunDetailSerializer,
    RunListQuerySerializer,
    RunPageSerializer,
    RunRetrySerializer,
)
from apps.jobs.services import job_create, run_allow, run_cancel, run_retry
from apps.jobs.states import Event, RunStatus
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated


class RunsView(APIView):
    # The variables have up to 16 KB and the parameters 50 KB, of which JSON may escape each byte.
    body_limit = 512 * 1024

    @extend_schema(parameters=[RunListQuerySerializer], responses=RunPageSerializer, operation_id="runs_list")
    def get(self, request: Request) -> Response:
        """Runs, newest first. A page may be shorter than `limit` and still have a next one."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, RunListQuerySerializer)
        if "status" in query:
            query["status"] = RunStatus(query["status"])
        if "event" in query:
            query["event"] = Event(query["event"])
        page = run_list(**query)
        return Response(RunPageSerializer(page, context={"request": request, "statuses": page.statuses}).data)

    @extend_schema(
        parameters=[RunCreateQuerySerializer, IDEMPOTENCY_HEADER],
        request=RunCreateSerializer,
        responses={201: RunCreatedSerializer},
        operation_id="runs_create",
    )
    def post(self, request: Request) -> Response:
        """Start a run of a pipeline. Its first job is queued."""
        permission_require(request_actor(request), Permission.JOBS_CREATE)
        members = body_validated(request.data, RunCreateSerializer)
        members |= query_validated(request.query_params, RunCreateQuerySerializer)
        job = job_create(actor=request_actor(request), idempotency_key=idempotency_key(request), **members)
        return Response(
            {"run_id": job.run_id, "job_id": job.job_id, "status": RunStatus.QUEUED.value},
            status=201,
            headers={"Location": request.build_absolute_uri(f"{get_script_prefix()}runs/{job.run_id}")},
        )


class RunView(APIView):
    @extend_schema(responses=RunDetailSerializer, operation_id="runs_get")
    def get(self, request: Request, run_id: str) -> Response:
        """One run with all of its jobs."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        return _detail(run_id)


class RunCancelView(APIView):
    @extend_schema(request=None, responses=RunDetailSerializer, operation_id="runs_cancel")
    def post(self, request: Request, run_id: str) -> Response:
        """Cancel all jobs of the run: those that wait at once; the agents of the others get a cancel request."""
        run_cancel(actor=request_actor(request), run_id=run_id)
        return _detail(run_id)


class RunAllowView(APIView):
    @extend_schema(request=None, responses={200: RunDetailSerializer, **problems(409)}, operation_id="runs_allow")
    def post(self, request: Request, run_id: str) -> Response:
        """Let the run of a fork's pull request have secrets, write caches and deploy. Run it again afterwards."""
        run_allow(actor=request_actor(request), run_id=run_id)
        return _detail(run_id)


class RunRetryView(APIView):
    @extend_schema(request=RunRetrySerializer, responses=RunDetailSerializer, operation_id="runs_retry")
    def post(self, request: Request, run_id: str) -> Response:
        """Run the failed and cancelled jobs again, or all that have ended. What succeeded is kept."""
        permission_require(request_actor(request), Permission.JOBS_RETRY)
        members: dict[str, Any] = body_validated(request.data, RunRetrySerializer)
        run_retry(actor=request_actor(request), run_id=run_id, everything=members["everything"])
        return _detail(run_id)


def _detail(run_id: str) -> Response:
    view = run_view(run_id)
    jobs = run_jobs(view)
    context = {
        "statuses": run_statuses([view.run]),
        "jobs": jobs,
        "waits": run_waits(view) | first_waits(jobs),
        "checks": run_checks(view.run),
    }
    return Response(RunDetailSerializer(view.run, context=context).data)
