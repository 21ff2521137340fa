"""The API ``/secrets`` and ``/rotations`` for users' programs. No answer has a value."""

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.secrets.policies import rotations_configure_require, secrets_manage_require, secrets_read_require
from apps.secrets.selectors import secret_deliveries, secret_get, secret_list, secret_versions
from apps.secrets.selectors.rotations import plan_get, rotation_get, rotation_list
from apps.secrets.serializers import (
    PageQuerySerializer,
    RotationConfigurationSerializer,
    RotationPageSerializer,
    RotationPlanSerializer,
    RotationSerializer,
    SecretChangeSerializer,
    SecretCreateSerializer,
    SecretDeliveriesSerializer,
    SecretPageSerializer,
    SecretSerializer,
    SecretValueSerializer,
    SecretVersionsSerializer,
)
from apps.secrets.services import secret_change, secret_create, secret_delete, secret_set
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from apps.secrets.services.rotations import rotation_hasten, rotation_stop, secret_rotate
from apps.secrets.states import MAX_BYTES, Scope
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated

_id_parameter = OpenApiParameter("secret_id", {"type": "string", "maxLength": 77}, OpenApiParameter.PATH)
_rotation_parameter = OpenApiParameter("rotation_id", {"type": "string", "maxLength": 104}, OpenApiParameter.PATH)
# JSON may escape each byte of a value.
_BODY_LIMIT = 8 * MAX_BYTES


class SecretsView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(parameters=[PageQuerySerializer], responses=SecretPageSerializer, operation_id="secrets_list")
    def get(self, request: Request) -> Response:
        """List the secrets by id, without their values."""
        secrets_read_require(request_actor(request))
        page = secret_list(**query_validated(request.query_params, PageQuerySerializer))
        return Response(SecretPageSerializer(page).data)

    @extend_schema(
        request=SecretCreateSerializer,
        responses={201: SecretSerializer, **problems(409)},
        operation_id="secrets_create",
    )
    def post(self, request: Request) -> Response:
        """Create a secret. Its name may exist with other scopes; a job gets the one with the narrowest scope."""
        secrets_manage_require(request_actor(request))
        members = body_validated(request.data, SecretCreateSerializer)
        scope = Scope(**members.pop("scope", {}))
        secret = secret_create(actor=request_actor(request), scope=scope, **members)
        return Response(SecretSerializer(secret).data, status=201)


class SecretView(APIView):
    @extend_schema(parameters=[_id_parameter], responses=SecretSerializer, operation_id="secrets_get")
    def get(self, request: Request, secret_id: str) -> Response:
        """Get what is known of one secret."""
        secrets_read_require(request_actor(request))
        return Response(SecretSerializer(secret_get(secret_id)).data)

    @extend_schema(
        parameters=[_id_parameter],
        request=SecretChangeSerializer,
        responses=SecretSerializer,
        operation_id="secrets_change",
    )
    def patch(self, request: Request, secret_id: str) -> Response:
        """Change the description or the owner of a secret."""
        secrets_manage_require(request_actor(request))
        members = body_validated(request.data, SecretChangeSerializer)
        secret = secret_change(actor=request_actor(request), secret_id=secret_id, **members)
        return Response(SecretSerializer(secret).data)

    @extend_schema(parameters=[_id_parameter], responses={204: None, **problems(409)}, operation_id="secrets_delete")
    def delete(self, request: Request, secret_id: str) -> Response:
        """Delete the secret and its values. Jobs that name it fail from now on."""
        secret_delete(actor=request_actor(request), secret_id=secret_id)
        return Response(status=204)


class SecretValueView(APIView):
    body_limit = _BODY_LIMIT

    @extend_schema(
        parameters=[_id_parameter],
        request=SecretValueSerializer,
        responses={200: OpenApiResponse(SecretSerializer, "The secret, with its new version."), **problems(409)},
        operation_id="secrets_set",
    )
    def put(self, request: Request, secret_id: str) -> Response:
        """Give the secret a new value, which jobs get from now on. The value before it is deleted."""
        secrets_manage_require(request_actor(request))
        members = body_validated(request.data, SecretValueSerializer)
        return Response(SecretSerializer(secret_set(actor=request_actor(request), secret_id=secret_id, **members)).data)


class SecretVersionsView(APIView):
    @extend_schema(parameters=[_id_parameter], responses=SecretVersionsSerializer, operation_id="secrets_versions")
    def get(self, request: Request, secret_id: str) -> Response:
        """List the versions of a secret, newest first, without their values."""
        secrets_read_require(request_actor(request))
        versions = secret_versions(str(secret_get(secret_id).secret_id))
        return Response(SecretVersionsSerializer({"versions": versions}).data)


class SecretDeliveriesView(APIView):
    @extend_schema(
        parameters=[_id_parameter, PageQuerySerializer],
        responses=SecretDeliveriesSerializer,
        operation_id="secrets_deliveries",
    )
    def get(self, request: Request, secret_id: str) -> Response:
        """List which jobs got which version of a secret, newest first."""
        secrets_read_require(request_actor(request))
        query = query_validated(request.query_params, PageQuerySerializer)
        page = secret_deliveries(str(secret_get(secret_id).secret_id), **query)
        return Response(SecretDeliveriesSerializer(page).data)


class SecretRotationView(APIView):
    # With the certificates of ten targets.
    body_limit = 200_000

    @extend_schema(parameters=[_id_parameter], responses=RotationPlanSerializer, operation_id="rotations_plan")
    def get(self, request: Request, secret_id: str) -> Response:
        """Get how a secret is rotated: its rotator, the systems that hold copies, and when."""
        secrets_read_require(request_actor(request))
        return Response(RotationPlanSerializer(plan_get(str(secret_get(secret_id).secret_id))).data)

    @extend_schema(
        parameters=[_id_parameter],
        request=RotationConfigurationSerializer,
        responses={200: RotationPlanSerializer, **problems(409)},
        operation_id="rotations_configure",
    )
    def put(self, request: Request, secret_id: str) -> Response:
        """Say how a secret is rotated. Configurations name secrets with credentials, and never have a value."""
        rotations_configure_require(request_actor(request))
        members = body_validated(request.data, RotationConfigurationSerializer)
        plan = rotation_configure(actor=request_actor(request), secret_id=secret_id, **members)
        return Response(RotationPlanSerializer(plan).data)

    @extend_schema(
        parameters=[_id_parameter], responses={204: None, **problems(409)}, operation_id="rotations_unconfigure"
    )
    def delete(self, request: Request, secret_id: str) -> Response:
        """Rotate a secret no more. Its earlier rotations stay readable."""
        rotation_configuration_delete(actor=request_actor(request), secret_id=secret_id)
        return Response(status=204)


class SecretRotateView(APIView):
    @extend_schema(
        parameters=[_id_parameter],
        request=None,
        responses={202: RotationSerializer, **problems(409)},
        operation_id="rotations_start",
    )
    def post(self, request: Request, secret_id: str) -> Response:
        """Begin a rotation. Its steps are done within minutes: ask for it again to see how far it is."""
        return Response(RotationSerializer(secret_rotate(actor=request_actor(request), secret_id=secret_id)).data, 202)


class SecretRotationsView(APIView):
    @extend_schema(
        parameters=[_id_parameter, PageQuerySerializer],
        responses=RotationPageSerializer,
        operation_id="rotations_list",
    )
    def get(self, request: Request, secret_id: str) -> Response:
        """List the rotations of a secret with their steps, newest first."""
        secrets_read_require(request_actor(request))
        query = query_validated(request.query_params, PageQuerySerializer)
        return Response(RotationPageSerializer(rotation_list(str(secret_get(secret_id).secret_id), **query)).data)


class RotationView(APIView):
    @extend_schema(parameters=[_rotation_parameter], responses=RotationSerializer, operation_id="rotations_get")
    def get(self, request: Request, rotation_id: str) -> Response:
        """Get one rotation, with each of its steps."""
        secrets_read_require(request_actor(request))
        return Response(RotationSerializer(rotation_get(rotation_id)).data)


class RotationStopView(APIView):
    @extend_schema(
        parameters=[_rotation_parameter],
        request=None,
        responses={202: RotationSerializer, **problems(409)},
        operation_id="rotations_stop",
    )
    def post(self, request: Request, rotation_id: str) -> Response:
        """Revert a rotation whose new value is not current yet: the old value is current everywhere."""
        rotation_stop(actor=request_actor(request), rotation_id=rotation_id)
        return Response(RotationSerializer(rotation_get(rotation_id)).data, 202)


class RotationHastenView(APIView):
    @extend_schema(
        parameters=[_rotation_parameter],
        request=None,
        responses={202: RotationSerializer, **problems(409)},
        operation_id="rotations_hasten",
    )
    def post(self, request: Request, rotation_id: str) -> Response:
        """End the old value as soon as possible, for one that has leaked: clients that still use it are refused."""
        rotation_hasten(actor=request_actor(request), rotation_id=rotation_id)
        return Response(RotationSerializer(rotation_get(rotation_id)).data, 202)
