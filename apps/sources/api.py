"""The API of connections: ``/connections``, and the events that they have delivered."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.pipelines.policies import pipeline_save_require
from apps.sources.policies import connections_manage_require, connections_read_require
from apps.sources.selectors import connection_get, connection_list, delivery_get, delivery_list
from apps.sources.serializers import (
    ConnectionChangeSerializer,
    ConnectionCreateSerializer,
    ConnectionEventPageSerializer,
    ConnectionEventSerializer,
    ConnectionMadeSerializer,
    ConnectionSerializer,
    ConnectionsSerializer,
    EventListQuerySerializer,
    InstallationsSerializer,
    PipelineMadeSerializer,
    RepositoriesSerializer,
    RepositoryPipelineSerializer,
    SecretRotateSerializer,
)
from apps.sources.services import (
    connection_change,
    connection_create,
    connection_delete,
    connection_secret_rotate,
)
from apps.sources.services.github_apps import (
    connection_installations,
    connection_repositories,
    repository_pipeline_create,
)
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated

_id_parameter = OpenApiParameter("connection_id", {"type": "string", "maxLength": 63}, OpenApiParameter.PATH)
event_parameters = [_id_parameter, OpenApiParameter("event_id", {"type": "string", "maxLength": 32}, "path")]
# A token has up to 16 KB, of which JSON may escape each byte.
_BODY_LIMIT = 128 * 1024


class ConnectionsView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(responses=ConnectionsSerializer, operation_id="connections_list")
    def get(self, request: Request) -> Response:
        """List the connections by their ids."""
        connections_read_require(request_actor(request))
        return Response(ConnectionsSerializer({"connections": connection_list()}).data)

    @extend_schema(
        request=ConnectionCreateSerializer,
        responses={201: ConnectionMadeSerializer, **problems(409)},
        operation_id="connections_create",
    )
    def post(self, request: Request) -> Response:
        """Create a connection. The answer has the secret of its webhooks, this once."""
        connections_manage_require(request_actor(request))
        members = body_validated(request.data, ConnectionCreateSerializer)
        made = connection_create(actor=request_actor(request), **members)
        context = {"webhook_secret": made.webhook_secret}
        return Response(ConnectionMadeSerializer(made.connection, context=context).data, status=201)


class ConnectionView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(parameters=[_id_parameter], responses=ConnectionSerializer, operation_id="connections_get")
    def get(self, request: Request, connection_id: str) -> Response:
        """Get one connection."""
        connections_read_require(request_actor(request))
        return Response(ConnectionSerializer(connection_get(connection_id)).data)

    @extend_schema(
        parameters=[_id_parameter],
        request=ConnectionChangeSerializer,
        responses={200: ConnectionSerializer, **problems(409)},
        operation_id="connections_change",
    )
    def patch(self, request: Request, connection_id: str) -> Response:
        """Change a connection. What is left out stays."""
        connections_manage_require(request_actor(request))
        members = body_validated(request.data, ConnectionChangeSerializer)
        changed = connection_change(actor=request_actor(request), connection_id=connection_id, **members)
        return Response(ConnectionSerializer(changed).data)

    @extend_schema(
        parameters=[_id_parameter], responses={204: None, **problems(409)}, operation_id="connections_delete"
    )
    def delete(self, request: Request, connection_id: str) -> Response:
        """Delete a connection to which no pipeline is bound."""
        connection_delete(actor=request_actor(request), connection_id=connection_id)
        return Response(status=204)


class ConnectionSecretView(APIView):
    @extend_schema(
        parameters=[_id_parameter],
        request=SecretRotateSerializer,
        responses={200: ConnectionMadeSerializer, **problems(409)},
        operation_id="connections_webhook_secret_rotate",
    )
    def post(self, request: Request, connection_id: str) -> Response:
        """Make a new webhook secret, which the answer has this once. The old one is accepted for 24 hours more."""
        connections_manage_require(request_actor(request))
        members = body_validated(request.data, SecretRotateSerializer)
        made = connection_secret_rotate(actor=request_actor(request), connection_id=connection_id, **members)
        context = {"webhook_secret": made.webhook_secret}
        return Response(ConnectionMadeSerializer(made.connection, context=context).data)


class ConnectionEventsView(APIView):
    @extend_schema(
        parameters=[_id_parameter, EventListQuerySerializer],
        responses=ConnectionEventPageSerializer,
        operation_id="connections_events_list",
    )
    def get(self, request: Request, connection_id: str) -> Response:
        """The events of the last 30 days, the newest first. A page may be short and still have a next one."""
        connections_read_require(request_actor(request))
        query = query_validated(request.query_params, EventListQuerySerializer)
        connection_get(connection_id)
        return Response(ConnectionEventPageSerializer(delivery_list(connection_id, **query)).data)


class ConnectionEventView(APIView):
    @extend_schema(
        parameters=event_parameters, responses=ConnectionEventSerializer, operation_id="connections_events_get"
    )
    def get(self, request: Request, connection_id: str, event_id: str) -> Response:
        """Get one event, with what came of it for each pipeline."""
        connections_read_require(request_actor(request))
        return Response(ConnectionEventSerializer(delivery_get(connection_id, event_id)).data)


class ConnectionRepositoriesView(APIView):
    @extend_schema(
        parameters=[_id_parameter],
        responses={200: RepositoriesSerializer, **problems(422)},
        operation_id="connections_repositories_list",
    )
    def get(self, request: Request, connection_id: str) -> Response:
        """List the repositories that the connection reaches. This asks its provider."""
        pipeline_save_require(request_actor(request))
        found = connection_repositories(connection_get(connection_id))
        return Response(RepositoriesSerializer({"repositories": found}).data)


class ConnectionInstallationsView(APIView):
    @extend_schema(
        parameters=[_id_parameter],
        responses={200: InstallationsSerializer, **problems(422)},
        operation_id="connections_installations_list",
    )
    def get(self, request: Request, connection_id: str) -> Response:
        """List where the connection's GitHub App is installed. This asks GitHub."""
        pipeline_save_require(request_actor(request))
        found = connection_installations(connection_get(connection_id))
        return Response(InstallationsSerializer({"installations": found}).data)


class ConnectionPipelinesView(APIView):
    @extend_schema(
        parameters=[_id_parameter],
        request=RepositoryPipelineSerializer,
        responses={201: PipelineMadeSerializer, **problems(409, 422)},
        operation_id="connections_pipelines_create",
    )
    def post(self, request: Request, connection_id: str) -> Response:
        """Make a pipeline from a repository that the connection reaches. Its events start runs of the pipeline."""
        pipeline_save_require(request_actor(request))
        members = body_validated(request.data, RepositoryPipelineSerializer)
        made = repository_pipeline_create(actor=request_actor(request), connection_id=connection_id, **members)
        return Response(PipelineMadeSerializer(made).data, status=201)
