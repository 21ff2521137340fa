"""The endpoints ``/jobs`` for people's programs."""

import re
from typing import Any

from django.urls import get_script_prefix
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors import Job, job_get, job_list, job_steps
from apps.jobs.serializers.jobs import (
    JobCreatedSerializer,
    JobCreateQuerySerializer,
    JobCreateSerializer,
    JobDetailSerializer,
    JobListQuerySerializer,
    JobPageSerializer,
)
from apps.jobs.services import job_cancel, job_create, job_retry
from apps.jobs.states import Status
from controlplane.http.requests import body_validated, query_validated
from controlplane.lib.errors import InvalidInput

_IDEMPOTENCY_KEY = re.compile("[!-~]{1,255}")
IDEMPOTENCY_HEADER = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": f"^{_IDEMPOTENCY_KEY.pattern}$"},
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters. The same request with the same key returns the job of the first "
    "request for 24 hours.",
)


class JobsView(APIView):
    # The variables have up to 16 KB, of which JSON may escape each byte.
    body_limit = 128 * 1024

    @extend_schema(parameters=[JobListQuerySerializer], responses=JobPageSerializer, operation_id="jobs_list")
    def get(self, request: Request) -> Response:
        """Jobs, newest first."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, JobListQuerySerializer)
        if "status" in query:
            query["status"] = Status(query["status"])
        page = job_list(**query)
        return Response(JobPageSerializer(page, context={"request": request}).data)

    @extend_schema(
        parameters=[JobCreateQuerySerializer, IDEMPOTENCY_HEADER],
        request=JobCreateSerializer,
        responses={201: JobCreatedSerializer},
        operation_id="jobs_create",
    )
    def post(self, request: Request) -> Response:
        """Start a run, and queue its first job. Its members are in the query or in a JSON body."""
        permission_require(request_actor(request), Permission.JOBS_CREATE)
        members = _create_members(request)
        job = job_create(actor=request_actor(request), idempotency_key=idempotency_key(request), **members)
        return _created(request, job)


class JobView(APIView):
    @extend_schema(responses=JobDetailSerializer, operation_id="jobs_get")
    def get(self, request: Request, job_id: str) -> Response:
        """One job with its steps."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        return _detail(request, job_id)


class JobCancelView(APIView):
    @extend_schema(request=None, responses=JobDetailSerializer, operation_id="jobs_cancel")
    def post(self, request: Request, job_id: str) -> Response:
        """Cancel the job: at once while it waits; while it runs, its agent gets a cancel request."""
        job_cancel(actor=request_actor(request), job_id=job_id)
        return _detail(request, job_id)


class JobRetryView(APIView):
    @extend_schema(
        parameters=[IDEMPOTENCY_HEADER],
        request=None,
        responses={201: JobCreatedSerializer},
        operation_id="jobs_retry",
    )
    def post(self, request: Request, job_id: str) -> Response:
        """Queue a new job like this one, in its place in the same run. This one must have ended."""
        permission_require(request_actor(request), Permission.JOBS_RETRY)
        job = job_retry(actor=request_actor(request), job_id=job_id, idempotency_key=idempotency_key(request))
        return _created(request, job)


def _detail(request: Request, job_id: str) -> Response:
    job = job_get(job_id)
    return Response(JobDetailSerializer(job, context={"request": request, "steps": job_steps(job)}).data)


def _created(request: Request, job: Job) -> Response:
    """The response to a new job. A repeated request gets the same response, even if the job has changed since."""
    return Response(
        {"job_id": job.job_id, "status": Status.QUEUED.value, "run_id": job.run_id},
        status=201,
        headers={"Location": request.build_absolute_uri(f"{get_script_prefix()}jobs/{job.job_id}")},
    )


def _create_members(request: Request) -> dict[str, Any]:
    """The members of a new job, from the query or the body, never from both."""
    body = request.data
    if request.query_params and body:
        raise InvalidInput("Send the job's members in the query or in the body, not in both.")
    if request.query_params:
        return query_validated(request.query_params, JobCreateQuerySerializer)
    return body_validated(body, JobCreateSerializer)


def idempotency_key(request: Request) -> str | None:
    """The header Idempotency-Key, if the request has one. Raises InvalidInput."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput.field("Idempotency-Key", "must have 1 to 255 visible ASCII characters")
    return key
