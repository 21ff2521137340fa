"""``GET /badges/{pipeline}.svg``: the result of a branch's last run as a picture, for a README."""

import hashlib
from typing import Any

from django.core.cache import cache
from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.html import escape
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors.badges import branch_result, branch_runs
from apps.jobs.serializers.badges import BadgeQuerySerializer
from apps.jobs.states import RunStatus
from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.refs import ref_validate
from apps.pipelines.selectors import Pipeline, pipeline_get
from controlplane.http.requests import query_validated
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Forbidden, NotAuthenticated, NotFound

# How long copies of a public badge are used, in seconds, and for how long a process keeps what it has read.
_KEPT_SECONDS = 60
_READ_SECONDS = 10

_WORDS = {RunStatus.COMPLETED: "passing", RunStatus.FAILED: "failing", None: "no runs yet"}
# With white text, each has a contrast of at least 4.5 to 1.
_COLOURS = {RunStatus.COMPLETED: "#1a7f37", RunStatus.FAILED: "#b0241c", None: "#59636e"}

_NAME = {"type": "string", "pattern": f"^{PIPELINE_NAME.pattern}$"}
_FOUND = "The badge, of which copies may be used for a minute if it is public."


class BadgeView(APIView):
    permission_classes = [AllowAny]  # noqa: RUF012 — DRF's

    def perform_authentication(self, request: Request) -> None:
        """Who asks matters only for a badge that is not public."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:  # noqa: ARG002 — DRF's
        """A badge is a picture, and DRF knows only our JSON. Errors are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        parameters=[
            OpenApiParameter("name", _NAME, OpenApiParameter.PATH, description="The name of the pipeline."),
            BadgeQuerySerializer,
            OpenApiParameter("ETag", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[200, 304]),
            OpenApiParameter("Cache-Control", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[200, 304]),
        ],
        responses={
            (200, "image/svg+xml"): OpenApiResponse(OpenApiTypes.STR, _FOUND),
            304: OpenApiResponse(description="It is still the one whose ETag is in `If-None-Match`."),
        },
        auth=[{}],  # type: ignore[list-item]
        operation_id="badges_get",
        tags=["pipelines"],
    )
    def get(self, request: Request, name: str) -> HttpResponse:
        """The result of a branch's last run as a picture (SVG).

        Without signing in, only of pipelines whose badge is public; all others are not found.
        """
        pipeline = _shown(request, name)
        branch = query_validated(request.query_params, BadgeQuerySerializer).get("branch")
        branch = ref_validate(branch, field="branch") if branch else str(pipeline.default_ref)
        content = _svg(str(pipeline.name), _result(str(pipeline.name), branch)).encode()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": f"public, max-age={_KEPT_SECONDS}"}
        if not pipeline.badge:
            headers |= {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
        response = HttpResponse(content, content_type="image/svg+xml; charset=utf-8", headers=headers)
        return get_conditional_response(request._request, etag=etag, response=response) or response


def _shown(request: Request, name: str) -> Pipeline:
    """The pipeline, if the request may see its badge. Else NotFound, as for a pipeline that does not exist."""
    try:
        found = pipeline_get(name)
    except NotFound:
        found = None
    if found is not None and found.badge:
        return found
    # Who asks is looked up for an unknown pipeline, too: the two answers must not differ in anything.
    may_read = _may_read(request)
    if found is None or not may_read:
        raise NotFound("There is no public badge of this name.", code=ErrorCode.PIPELINE_NOT_FOUND)
    return found


def _may_read(request: Request) -> bool:
    try:
        if not request.user:
            # Of a request without credentials it is None.
            return False
        permission_require(request_actor(request), Permission.PIPELINES_READ)
    except (NotAuthenticated, Forbidden):
        return False
    return True


def _result(pipeline: str, branch: str) -> RunStatus | None:
    """The result. A process lists the runs of a pipeline at most once in ten seconds, and so reads each branch of them.

    Everyone may ask for a public badge, and for any number of branches that do not exist.
    """
    key = f"badge:{pipeline}:{hashlib.sha256(branch.encode()).hexdigest()}"
    known: RunStatus | None = cache.get(key)
    if known is not None:
        return known
    runs: list[tuple[str, str]] | None = cache.get(f"badge:{pipeline}")
    if runs is None:
        runs = branch_runs(pipeline)
        cache.set(f"badge:{pipeline}", runs, _READ_SECONDS)
    result = branch_result(runs, branch)
    if result is not None:
        cache.set(key, result, _READ_SECONDS)
    return result


def _svg(label: str, result: RunStatus | None) -> str:
    """The badge. It has no script, no style and no font of its own, so that it may be in any page."""
    word, colour = _WORDS[result], _COLOURS[result]
    left, right = _width(label), _width(word)
    title = escape(f"{label}: {word}")
    text = (
        f'<text x="{left / 2:g}" y="14" textLength="{left - 12}">{escape(label)}</text>'
        f'<text x="{left + right / 2:g}" y="14" textLength="{right - 12}">{word}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<rect width="{left + right}" height="20" rx="3" fill="#3b434b"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z" fill="{colour}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11" '
        f'aria-hidden="true">{text}</g></svg>'
    )


def _width(text: str) -> int:
    """How wide a part with this text is, in pixels: about as wide as Verdana has it, since the text is fitted in."""
    return round(sum(_NARROW.get(character, 7.0) for character in text)) + 12


_NARROW = {**dict.fromkeys("ijl", 3.1), **dict.fromkeys("frt-", 4.6), "m": 10.7, "w": 9.0, " ": 3.9}
