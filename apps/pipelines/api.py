"""The API ``/pipelines`` for users' programs."""

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.parsing import pipeline_parse
from apps.pipelines.policies import pipeline_save_require
from apps.pipelines.selectors import pipeline_get, pipeline_list
from apps.pipelines.serializers import (
    DefinitionCheckedSerializer,
    DefinitionCheckSerializer,
    DefinitionImportedSerializer,
    DefinitionImportSerializer,
    PipelineListQuerySerializer,
    PipelinePageSerializer,
    PipelineSaveSerializer,
    PipelineSerializer,
)
from apps.pipelines.services import pipeline_delete, pipeline_save
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput

_name_parameter = OpenApiParameter(
    "name", {"type": "string", "pattern": f"^{PIPELINE_NAME.pattern}$"}, OpenApiParameter.PATH
)


class PipelinesView(APIView):
    @extend_schema(
        parameters=[PipelineListQuerySerializer], responses=PipelinePageSerializer, operation_id="pipelines_list"
    )
    def get(self, request: Request) -> Response:
        """List the pipelines by name."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        page = pipeline_list(**query_validated(request.query_params, PipelineListQuerySerializer))
        return Response(PipelinePageSerializer(page).data)


class PipelineView(APIView):
    # The definition has up to 64 KB, of which JSON may escape each byte.
    body_limit = 512 * 1024

    @extend_schema(parameters=[_name_parameter], responses=PipelineSerializer, operation_id="pipelines_get")
    def get(self, request: Request, name: str) -> Response:
        """Get one pipeline."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        return Response(PipelineSerializer(pipeline_get(name)).data)

    @extend_schema(
        parameters=[_name_parameter],
        request=PipelineSaveSerializer,
        responses={
            200: PipelineSerializer,
            201: OpenApiResponse(PipelineSerializer, "Created: there was no pipeline of this name."),
            **problems(409),
        },
        operation_id="pipelines_save",
    )
    def put(self, request: Request, name: str) -> Response:
        """Create the pipeline, or replace all of it. If the definition is invalid, `errors` has each mistake's line."""
        # The answer about the permission comes before any about the body.
        pipeline_save_require(request_actor(request))
        members = body_validated(request.data, PipelineSaveSerializer)
        pipeline, created = pipeline_save(actor=request_actor(request), name=name, **members)
        return Response(PipelineSerializer(pipeline).data, status=201 if created else 200)

    @extend_schema(parameters=[_name_parameter], responses={204: None}, operation_id="pipelines_delete")
    def delete(self, request: Request, name: str) -> Response:
        """Delete the pipeline. Its jobs stay."""
        pipeline_delete(actor=request_actor(request), name=name)
        return Response(status=204)


class DefinitionCheckView(APIView):
    # A file of 64 KB, of which JSON may escape each byte.
    body_limit = 512 * 1024

    @extend_schema(
        request=DefinitionCheckSerializer,
        responses=DefinitionCheckedSerializer,
        operation_id="definitions_check",
        tags=["pipelines"],
    )
    def post(self, request: Request) -> Response:
        """Check the text of a pipeline file, and store nothing. `errors` has the line of each mistake."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        members = body_validated(request.data, DefinitionCheckSerializer)
        pipeline = pipeline_parse(members["definition"])
        return Response({"jobs": list(pipeline.jobs), "parameters": list(pipeline.parameters)})


class DefinitionImportView(APIView):
    body_limit = 512 * 1024

    @extend_schema(
        request=DefinitionImportSerializer,
        responses=DefinitionImportedSerializer,
        operation_id="definitions_import",
        tags=["pipelines"],
    )
    def post(self, request: Request) -> Response:
        """Convert a file of another product to a pipeline file, and store nothing."""
        pipeline_save_require(request_actor(request))
        members = body_validated(request.data, DefinitionImportSerializer)
        # It needs the readers of all products, and few requests do.
        from apps.pipelines.importing.converting import pipeline_convert
        from apps.pipelines.importing.remarks import ImportRefused

        try:
            conversion = pipeline_convert(members["product"], members["text"])
        except ImportRefused as refusal:
            raise InvalidInput(str(refusal), code=ErrorCode.DEFINITION_INVALID) from refusal
        return Response(DefinitionImportedSerializer(conversion).data)
