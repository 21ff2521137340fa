"""``/audit``: the audit trail for programs."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.audit.formats import Format
from apps.audit.policies import audit_read_require, hold_require
from apps.audit.selectors import audit_search
from apps.audit.selectors.holds import hold_list
from apps.audit.selectors.proofs import event_proof
from apps.audit.selectors.seals import seal_page
from apps.audit.selectors.trail import TrailSearch
from apps.audit.serializers import (
    AuditExportQuerySerializer,
    AuditPageSerializer,
    AuditQuerySerializer,
    HeldQuerySerializer,
    HoldCreateSerializer,
    HoldSerializer,
    HoldsSerializer,
    ProofSerializer,
    SealPageSerializer,
    SealQuerySerializer,
)
from apps.audit.services.exports import audit_export, held_export
from apps.audit.services.holds import hold_place, hold_release
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated

# A page of a hold has at most so many packs of events, which is less than an answer may have.
_PACKS = 10

_NEXT = OpenApiParameter(
    "Link",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    response=[200],
    description='The next page, as <URL>; rel="next". The last page has none.',
)
_UNTIL = OpenApiParameter(
    "X-Export-Until",
    OpenApiTypes.DATETIME,
    OpenApiParameter.HEADER,
    response=[200],
    description="The export has all events before this time. A later one goes on with it as “from”.",
)


class AuditView(APIView):
    @extend_schema(
        parameters=[AuditQuerySerializer], responses=AuditPageSerializer, operation_id="audit_list", tags=["audit"]
    )
    def get(self, request: Request) -> Response:
        """Audit events that match all filters, newest first. Filters find an event a moment after its act."""
        actor: Any = request.user
        audit_read_require(actor)
        page = audit_search(**query_validated(request.query_params, AuditQuerySerializer))
        return Response(AuditPageSerializer(page).data)


class SealsView(APIView):
    @extend_schema(
        parameters=[SealQuerySerializer], responses=SealPageSerializer, operation_id="audit_seals", tags=["audit"]
    )
    def get(self, request: Request) -> Response:
        """The seals of the audit trail, newest first: each minute with events has one."""
        actor: Any = request.user
        audit_read_require(actor)
        page = seal_page(**query_validated(request.query_params, SealQuerySerializer))
        return Response(SealPageSerializer(page).data)


class ProofView(APIView):
    @extend_schema(responses=ProofSerializer, operation_id="audit_proof", tags=["audit"])
    def get(self, request: Request, event: str) -> Response:
        """The proof that an event is in the sealed trail. Events of the last minutes have none yet."""
        actor: Any = request.user
        audit_read_require(actor)
        return Response(ProofSerializer(event_proof(event)).data)


class AuditExportView(APIView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:  # noqa: ARG002 — DRF's
        """Ignore the Accept header: the query has the format. Errors are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        parameters=[AuditExportQuerySerializer, _NEXT, _UNTIL],
        responses={
            (200, "application/jsonl"): OpenApiResponse(OpenApiTypes.STR, "One event a line, oldest first."),
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, "One event a line; the first page has a header."),
        },
        operation_id="audit_export",
        tags=["audit"],
    )
    def get(self, request: Request) -> HttpResponse:
        """A page of the trail as a file, oldest first. All pages one after the other are one file."""
        asked = query_validated(request.query_params, AuditExportQuerySerializer)
        actor: Any = request.user
        form = Format(asked["format"], asked["schema"])
        page = audit_export(
            actor=actor,
            search=TrailSearch(asked.get("actor"), asked.get("target"), asked.get("action")),
            form=form,
            first=asked.get("first_day"),
            last=asked.get("last_day"),
            limit=asked["limit"],
            cursor=asked.get("cursor"),
        )
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'attachment; filename="audit.{form.kind}"',
            "X-Export-Until": page.until,
        }
        return HttpResponse(
            page.content, content_type=form.content_type, headers={**headers, **_link(request, page.next_cursor)}
        )


class HoldsView(APIView):
    @extend_schema(responses=HoldsSerializer, operation_id="audit_holds_list", tags=["audit"])
    def get(self, request: Request) -> Response:
        """The legal holds, newest first."""
        actor: Any = request.user
        audit_read_require(actor)
        return Response(HoldsSerializer({"holds": hold_list()}).data)

    @extend_schema(
        request=HoldCreateSerializer,
        responses={201: HoldSerializer, **problems(409)},
        operation_id="audit_holds_create",
        tags=["audit"],
    )
    def post(self, request: Request) -> Response:
        """Place a legal hold: copies of the events of a target, an actor, an action or a time stay when they expire."""
        actor: Any = request.user
        hold_require(actor)
        asked = body_validated(request.data, HoldCreateSerializer)
        hold = hold_place(
            actor=actor,
            reason=asked["reason"],
            search=TrailSearch(asked.get("actor"), asked.get("target"), asked.get("action")),
            first=asked.get("first_day"),
            last=asked.get("last_day"),
        )
        return Response(HoldSerializer(hold).data, status=201)


class HoldReleaseView(APIView):
    @extend_schema(request=None, responses=HoldSerializer, operation_id="audit_holds_release", tags=["audit"])
    def post(self, request: Request, hold_id: str) -> Response:
        """Release a legal hold. Its copies stay."""
        actor: Any = request.user
        return Response(HoldSerializer(hold_release(actor=actor, hold_id=hold_id)).data)


class HoldEventsView(APIView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:  # noqa: ARG002 — DRF's
        """Ignore the Accept header. Errors are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        parameters=[HeldQuerySerializer, _NEXT],
        responses={(200, "application/jsonl"): OpenApiResponse(OpenApiTypes.STR, "One event a line, oldest first.")},
        operation_id="audit_holds_events",
        tags=["audit"],
    )
    def get(self, request: Request, hold_id: str) -> HttpResponse:
        """A page of the copies of a legal hold, as an export has them, oldest first."""
        actor: Any = request.user
        audit_read_require(actor)
        asked = query_validated(request.query_params, HeldQuerySerializer)
        lines, cursor = held_export(actor=actor, hold_id=hold_id, packs=_PACKS, cursor=asked.get("cursor"))
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'attachment; filename="hold-{hold_id}.jsonl"',
            **_link(request, cursor),
        }
        content = "".join(f"{line}\n" for line in lines)
        return HttpResponse(content, content_type=Format().content_type, headers=headers)


def _link(request: Request, cursor: str | None) -> dict[str, str]:
    """The header with the address of the next page, if there is one."""
    if not cursor:
        return {}
    query = request.query_params.copy()
    query["cursor"] = cursor
    url = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    return {"Link": f'<{url}>; rel="next"'}
