"""The endpoints ``/jobs`` for people's programs."""

import re
from typing import Any

from django.http import HttpResponse
from django.urls import get_script_prefix
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors import job_get, job_list, job_log_read, job_steps
from apps.jobs.serializers.jobs import (
    JobCreatedSerializer,
    JobCreateQuerySerializer,
    JobCreateSerializer,
    JobDetailSerializer,
    JobListQuerySerializer,
    JobLogQuerySerializer,
    JobPageSerializer,
)
from apps.jobs.services import job_cancel, job_create, job_retry
from apps.jobs.states import Status
from controlplane.http.requests import body_validated, query_validated
from controlplane.lib.errors import InvalidInput

# The most bytes of a log in one response, well below Lambda's limit.
LOG_SLICE_BYTES = 1_000_000

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_idempotency_header = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters. The same request with the same key returns the job of the first "
    "request for 24 hours.",
)


class JobsView(APIView):
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
        parameters=[JobCreateQuerySerializer, _idempotency_header],
        request=JobCreateSerializer,
        responses={201: JobCreatedSerializer},
        operation_id="jobs_create",
    )
    def post(self, request: Request) -> Response:
        """Queue a job. Its members are in the query or in a JSON body."""
        permission_require(request_actor(request), Permission.JOBS_CREATE)
        members = _create_members(request)
        job = job_create(actor=request_actor(request), idempotency_key=_idempotency_key(request), **members)
        return _created(request, job.job_id)


class JobView(APIView):
    @extend_schema(responses=JobDetailSerializer, operation_id="jobs_get")
    def get(self, request: Request, job_id: str) -> Response:
        """One job with its steps."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        return _detail(request, job_id)


class JobLogView(APIView):
    @extend_schema(
        parameters=[JobLogQuerySerializer],
        responses={
            (200, "text/plain"): OpenApiResponse(
                OpenApiTypes.BINARY,
                "The log from the offset. X-Next-Offset is the next offset; X-Log-Complete is true at the log's end.",
            )
        },
        operation_id="jobs_log",
    )
    def get(self, request: Request, job_id: str) -> HttpResponse:
        """The output of the job from a byte offset on."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, JobLogQuerySerializer)
        part = job_log_read(job=job_get(job_id), offset=query["offset"], limit=LOG_SLICE_BYTES)
        return HttpResponse(
            part.data,
            # The bytes are unchanged, in the encoding that the job printed.
            content_type="text/plain",
            headers={
                "X-Next-Offset": str(part.next_offset),
                "X-Log-Complete": "true" if part.complete else "false",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )


class JobCancelView(APIView):
    @extend_schema(request=None, responses=JobDetailSerializer, operation_id="jobs_cancel")
    def post(self, request: Request, job_id: str) -> Response:
        """Cancel the job: at once while it waits; while it runs, its agent gets a cancel request."""
        job_cancel(actor=request_actor(request), job_id=job_id)
        return _detail(request, job_id)


class JobRetryView(APIView):
    @extend_schema(
        parameters=[_idempotency_header],
        request=None,
        responses={201: JobCreatedSerializer},
        operation_id="jobs_retry",
    )
    def post(self, request: Request, job_id: str) -> Response:
        """Queue a new job like this one. This one must have ended."""
        permission_require(request_actor(request), Permission.JOBS_RETRY)
        job = job_retry(actor=request_actor(request), job_id=job_id, idempotency_key=_idempotency_key(request))
        return _created(request, job.job_id)


def _detail(request: Request, job_id: str) -> Response:
    job = job_get(job_id)
    return Response(JobDetailSerializer(job, context={"request": request, "steps": job_steps(job)}).data)


def _created(request: Request, job_id: str) -> Response:
    """The response to a new job. A repeated request gets the same response, even if the job has changed since."""
    return Response(
        {"job_id": job_id, "status": Status.QUEUED.value},
        status=201,
        headers={"Location": request.build_absolute_uri(f"{get_script_prefix()}jobs/{job_id}")},
    )


def _create_members(request: Request) -> dict[str, Any]:
    """The members of a new job, from the query or the body, never from both."""
    body = request.data
    if request.query_params and body:
        raise InvalidInput("Send the job's members in the query or in the body, not in both.")
    if request.query_params:
        return query_validated(request.query_params, JobCreateQuerySerializer)
    return body_validated(body, JobCreateSerializer)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput.field("Idempotency-Key", "must have 1 to 255 visible ASCII characters")
    return key
