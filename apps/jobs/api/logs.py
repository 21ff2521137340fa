"""The endpoints ``/jobs/{job_id}/log`` for people's programs."""

from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors import (
    LogPart,
    attempt_log,
    job_get,
    job_log_link,
    log_attempt_newest,
    log_line_range,
    log_part,
    part_blocks,
    part_lines,
    part_size,
    part_tail,
)
from apps.jobs.selectors.log_search import log_search_page
from apps.jobs.serializers.jobs import (
    LOG_SLICE_BYTES,
    JobLogQuerySerializer,
    JobLogSearchQuerySerializer,
    LogSearchSerializer,
)
from controlplane.http.byte_ranges import ByteRange, byte_range
from controlplane.http.openapi import problems
from controlplane.http.problems import problem_response
from controlplane.http.requests import behind_gateway, query_validated
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict

# A gateway takes no larger response, and a function sends none in parts.
_GATEWAY_BYTES = 5_000_000

# Jobs print UTF-8, as a rule; the bytes are those that they printed.
_LOG_TYPE = "text/plain; charset=utf-8"
_LOG_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def _header(name: str, kind: Any, description: str, *statuses: int) -> OpenApiParameter:
    return OpenApiParameter(
        name, kind, OpenApiParameter.HEADER, response=[*statuses], required=False, description=description
    )


_RANGE_HEADERS = [
    OpenApiParameter(
        "Range",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="One range of bytes, for a log whose response has `Accept-Ranges` (an archived one), and only "
        "without offset, limit, tail and timestamps. Otherwise it is ignored.",
    ),
    OpenApiParameter("If-Range", OpenApiTypes.STR, OpenApiParameter.HEADER, description="The ETag of the log."),
    _header("X-Offset", OpenApiTypes.INT, "Where this part begins.", 200, 206),
    _header("X-Next-Offset", OpenApiTypes.INT, "Where the next part begins: its `offset`.", 200, 206),
    _header("X-Log-Complete", OpenApiTypes.BOOL, "`true` if the log ends with this part.", 200, 206),
    _header("Link", OpenApiTypes.STR, "With rel=next where there is more already.", 200),
    _header("Accept-Ranges", OpenApiTypes.STR, "`bytes` if the log is archived, so that Range works.", 200, 206),
    _header("ETag", OpenApiTypes.STR, "Of an archived log.", 200, 206),
    _header("Content-Range", OpenApiTypes.STR, "Which bytes of how many these are.", 206, 416),
    _header("Location", OpenApiTypes.URI, "Valid for five minutes.", 302),
]


class JobLogView(APIView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:  # noqa: ARG002 — DRF's
        """The log is text, and DRF knows only our JSON. Errors are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        parameters=[JobLogQuerySerializer, *_RANGE_HEADERS],
        responses={
            (200, "text/plain"): OpenApiResponse(
                OpenApiTypes.STR,
                "The log from the offset, in UTF-8 as a rule. A part ends with a line; only a line that is longer than "
                "`limit` is cut.",
            ),
            (206, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "The bytes of the Range, at most 1,000,000."),
            302: OpenApiResponse(description="With `download`: where an archived log can be downloaded."),
            **problems(409, 416),
        },
        operation_id="jobs_log",
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """The output of the job from a byte offset on, its last lines, or all of it as a file."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, JobLogQuerySerializer)
        job = job_get(job_id)
        part = log_part(job=job, attempt=query.get("attempt"), step=query.get("step"))
        if query["download"]:
            filename = "-".join(
                ["job", job_id, *(f"{name}-{query[name]}" for name in ("attempt", "step") if name in query)]
            )
            link = job_log_link(job=job, filename=f"{filename}.log") if _is_whole(job, query) else None
            return HttpResponseRedirect(link) if link else _download(request, part, f"{filename}.log")
        if part.tag and not _is_paged(query):
            chosen = byte_range(request, size=part_size(part), etag=_etag(part))
            if chosen is not None:
                return _ranged(part, chosen)
        return _paged(request, part, query)


def _is_whole(job: Any, query: dict[str, Any]) -> bool:
    """Whether the request is about all that is in the archived file."""
    return "step" not in query and query.get("attempt") in (None, 1) and ("attempt" not in query or job.attempt == 1)


def _is_paged(query: dict[str, Any]) -> bool:
    """Whether the request names a part of the log otherwise than by Range. A generated client sends every default."""
    return query["offset"] != 0 or query["limit"] != LOG_SLICE_BYTES or "tail" in query or query["timestamps"]


def _etag(part: LogPart) -> str:
    return f'"{part.tag}"'


def _archived_headers(part: LogPart) -> dict[str, str]:
    return {"Accept-Ranges": "bytes", "ETag": _etag(part)} if part.tag else {}


def _paged(request: Request, part: LogPart, query: dict[str, Any]) -> HttpResponse:
    if "tail" in query:
        found, more = part_tail(part, lines=query["tail"], limit=query["limit"]), False
    else:
        found, more = part_lines(part, offset=query["offset"], limit=query["limit"])
    offset, following = found.offset, found.next_offset
    if query["timestamps"]:
        found = part.stamped(found)
        more = more or found.next_offset < following
    headers = {
        **_LOG_HEADERS,
        **_archived_headers(part),
        "X-Offset": str(offset),
        "X-Next-Offset": str(found.next_offset),
        "X-Log-Complete": "true" if found.complete else "false",
    }
    if more:
        kept: dict[str, Any] = {name: query[name] for name in ("attempt", "step") if name in query}
        kept |= {"timestamps": "true"} if query["timestamps"] else {}
        headers["Link"] = _next_link(request, offset=found.next_offset, limit=query["limit"], **kept)
    return HttpResponse(found.data, content_type=_LOG_TYPE, headers=headers)


def _next_link(request: Request, **query: Any) -> str:
    return f'<{request.build_absolute_uri(f"{request.path}?{urlencode(query)}")}>; rel="next"'


def _download(request: Request, part: LogPart, filename: str) -> HttpResponseBase:
    headers = {
        **_LOG_HEADERS,
        **_archived_headers(part),
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    chosen = byte_range(request, size=part_size(part), etag=_etag(part)) if part.tag else None
    if chosen is not None and (behind_gateway(request) or chosen.first == chosen.end):
        return _ranged(part, chosen, headers)
    if chosen is None and behind_gateway(request) and part_size(part) > _GATEWAY_BYTES:
        raise _too_large(part)
    if chosen is None:
        return _streamed(part_blocks(part), headers)
    headers["Content-Range"] = f"bytes {chosen.first}-{chosen.end - 1}/{part_size(part)}"
    return _streamed(part_blocks(part, offset=chosen.first, end=chosen.end), headers, status=206)


def _too_large(part: LogPart) -> Conflict:
    if part.tag:
        return Conflict(
            "This part of the log has more than 5 MB. Read it by offset and limit, or download the whole log."
        )
    return Conflict(
        "The log has more than 5 MB and is not archived yet, so it cannot be downloaded at once. Read it in parts, "
        "or try again a minute after the job's end.",
        code=ErrorCode.LOG_NOT_ARCHIVED,
    )


def _streamed(blocks: Iterator[bytes], headers: dict[str, str], *, status: int = 200) -> StreamingHttpResponse:
    # A failure of the first call is still a problem response.
    first = next(blocks, b"")
    return StreamingHttpResponse(chain([first], blocks), content_type=_LOG_TYPE, status=status, headers=headers)


def _ranged(part: LogPart, chosen: ByteRange, headers: dict[str, str] | None = None) -> HttpResponse:
    """At most LOG_SLICE_BYTES of the range: Content-Range says how many (RFC 9110 section 15.3.7)."""
    size = part_size(part)
    if chosen.first == chosen.end:
        error = ApplicationError(
            f"The Range begins after the end of the log, which has {size} bytes.",
            status=416,
            code=ErrorCode.RANGE_NOT_SATISFIABLE,
        )
        refused = problem_response(error)
        refused["Content-Range"] = f"bytes */{size}"
        return refused
    found = part.read(chosen.first, min(chosen.end - chosen.first, LOG_SLICE_BYTES))
    headers = {
        **(headers or _LOG_HEADERS),
        **_archived_headers(part),
        "Content-Range": f"bytes {found.offset}-{found.next_offset - 1}/{size}",
        "X-Offset": str(found.offset),
        "X-Next-Offset": str(found.next_offset),
        "X-Log-Complete": "true" if found.complete else "false",
    }
    return HttpResponse(found.data, status=206, content_type=_LOG_TYPE, headers=headers)


class JobLogSearchView(APIView):
    @extend_schema(
        parameters=[JobLogSearchQuerySerializer],
        responses=LogSearchSerializer,
        operation_id="jobs_log_search",
    )
    def get(self, request: Request, job_id: str) -> Response:
        """The lines of an attempt's log in which something is found, with the lines around them.

        A search takes at most 8 s; if that is not enough, `next_line` says where to go on.
        """
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, JobLogSearchQuerySerializer)
        job = job_get(job_id)
        attempt = query.get("attempt") or log_attempt_newest(job)
        log = attempt_log(job, attempt)
        first, last = log_line_range(log, step=query.get("step"))
        page = log_search_page(
            log,
            question=query["q"],
            regex=query["regex"],
            case=query["case"],
            first=max(first, query["from_line"]),
            last=last,
            limit=query["limit"],
            context=query["context"],
        )
        found = {
            "attempt": attempt,
            "hits": page.hits,
            "total": page.total,
            "total_is_lower_bound": not page.complete,
            "searched_to": page.searched,
            "next_line": page.following,
            "log_complete": log.complete,
        }
        return Response(LogSearchSerializer(found).data)
