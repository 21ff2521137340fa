"""``/jobs`` for people's programs."""

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

# The most of a log that one answer carries, well under what Lambda may answer with.
LOG_SLICE_BYTES = 1_000_000

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_idempotency_header = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters. Sending the same request with the same key again within 24 hours "
    "gives the job of the first time.",
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
        """Queue a job; its members come in the query or in a JSON body."""
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
                "Bytes from the offset; X-Next-Offset says where to go on, X-Log-Complete whether that is the end.",
            )
        },
        operation_id="jobs_log",
    )
    def get(self, request: Request, job_id: str) -> HttpResponse:
        """What the job printed, from a byte offset on."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, JobLogQuerySerializer)
        piece = job_log_read(job=job_get(job_id), offset=query["offset"], limit=LOG_SLICE_BYTES)
        return HttpResponse(
            piece.data,
            # The bytes are as the job printed them, in whatever encoding that was.
            content_type="text/plain",
            headers={
                "X-Next-Offset": str(piece.next_offset),
                "X-Log-Complete": "true" if piece.complete else "false",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )


class JobCancelView(APIView):
    @extend_schema(request=None, responses=JobDetailSerializer, operation_id="jobs_cancel")
    def post(self, request: Request, job_id: str) -> Response:
        """Cancel the job: at once while it waits, through its agent while it runs."""
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
        """Queue a new job like this one, which has ended."""
        permission_require(request_actor(request), Permission.JOBS_RETRY)
        job = job_retry(actor=request_actor(request), job_id=job_id, idempotency_key=_idempotency_key(request))
        return _created(request, job.job_id)


def _detail(request: Request, job_id: str) -> Response:
    job = job_get(job_id)
    return Response(JobDetailSerializer(job, context={"request": request, "steps": job_steps(job)}).data)


def _created(request: Request, job_id: str) -> Response:
    """The answer to queueing; a repeated request gets the same one, whatever has become of the job since."""
    return Response(
        {"job_id": job_id, "status": Status.QUEUED.value},
        status=201,
        headers={"Location": request.build_absolute_uri(f"{get_script_prefix()}jobs/{job_id}")},
    )


def _create_members(request: Request) -> dict[str, Any]:
    """The members of a new job from the query or the body, never from both."""
    body = request.data
    if request.query_params and body:
        raise InvalidInput("Give the job's members in the query or in the body, not in both.")
    if request.query_params:
        return query_validated(request.query_params, JobCreateQuerySerializer)
    return body_validated(body, JobCreateSerializer)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput.field("Idempotency-Key", "must have 1 to 255 visible ASCII characters")
    return key
