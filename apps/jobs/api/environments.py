"""The API of environments: ``/environments``."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.policies import environment_manage_require
from apps.jobs.selectors.deployment_jobs import job_statuses
from apps.jobs.selectors.environments import environment_get, environment_list, environment_view
from apps.jobs.serializers.deployments import (
    EnvironmentChangeSerializer,
    EnvironmentCreateSerializer,
    EnvironmentSerializer,
    EnvironmentsSerializer,
)
from apps.jobs.services.environments import environment_change, environment_create, environment_delete
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated

_name_parameter = OpenApiParameter("name", {"type": "string", "maxLength": 55}, OpenApiParameter.PATH)
# Fifty refs and fifty windows, of which JSON may escape each byte.
_BODY_LIMIT = 256 * 1024


class EnvironmentsView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(responses=EnvironmentsSerializer, operation_id="environments_list")
    def get(self, request: Request) -> Response:
        """List the environments by name, each with what is live in it."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        views = environment_list()
        return Response(EnvironmentsSerializer({"environments": views}, context=_context(*views)).data)

    @extend_schema(
        request=EnvironmentCreateSerializer,
        responses={201: EnvironmentSerializer, **problems(409)},
        operation_id="environments_create",
    )
    def post(self, request: Request) -> Response:
        """Make an environment: where jobs deploy to, and what they wait for before they may."""
        environment_manage_require(request_actor(request))
        members = body_validated(request.data, EnvironmentCreateSerializer)
        environment = environment_create(actor=request_actor(request), **members)
        return Response(_shown(environment.name), status=201)


class EnvironmentView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(parameters=[_name_parameter], responses=EnvironmentSerializer, operation_id="environments_get")
    def get(self, request: Request, name: str) -> Response:
        """Get one environment, with what is live in it."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        environment_get(name)
        return Response(_shown(name))

    @extend_schema(
        parameters=[_name_parameter],
        request=EnvironmentChangeSerializer,
        responses={200: EnvironmentSerializer, **problems(409)},
        operation_id="environments_change",
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change an environment. What is left out stays. Deployments that wait are decided by it at once."""
        environment_manage_require(request_actor(request))
        members = body_validated(request.data, EnvironmentChangeSerializer)
        environment_change(actor=request_actor(request), name=name, **members)
        return Response(_shown(name))

    @extend_schema(parameters=[_name_parameter], responses={204: None}, operation_id="environments_delete")
    def delete(self, request: Request, name: str) -> Response:
        """Delete an environment. Jobs that deploy to it fail until it is made again."""
        environment_delete(actor=request_actor(request), name=name)
        return Response(status=204)


def _shown(name: str) -> Any:
    view = environment_view(name)
    return EnvironmentSerializer(view, context=_context(view)).data


def _context(*views: Any) -> dict[str, Any]:
    """What the serializers need beside the environments: one call if something is in progress in any of them."""
    return {"job_statuses": job_statuses(view.in_progress for view in views if view and view.in_progress)}
