"""The API of deployments: ``/deployments``."""

from django.urls import get_script_prefix
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.api.jobs import IDEMPOTENCY_HEADER, idempotency_key
from apps.jobs.policies import deployment_approve_require, job_create_require
from apps.jobs.selectors import Job
from apps.jobs.selectors.deployment_jobs import deployment_job, deployment_job_statuses
from apps.jobs.selectors.deployments import (
    Deployment,
    DeploymentPage,
    deployment_gates,
    deployment_get,
    deployment_list,
    deployments_of_run,
)
from apps.jobs.serializers.deployments import (
    DecisionSerializer,
    DeploymentChangesSerializer,
    DeploymentCreateSerializer,
    DeploymentDetailSerializer,
    DeploymentListQuerySerializer,
    DeploymentPageSerializer,
    DeploymentStartedSerializer,
)
from apps.jobs.services.approvals import deployment_approve, deployment_reject
from apps.jobs.services.deployment_changes import deployment_changes
from apps.jobs.services.deployments import deployment_create, deployment_redeploy, deployment_rollback
from apps.jobs.states import DeploymentStatus
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated
from controlplane.lib.errors import InvalidInput


class DeploymentsView(APIView):
    # The parameters have up to 50 KB, of which JSON may escape each byte.
    body_limit = 400 * 1024

    @extend_schema(
        parameters=[DeploymentListQuerySerializer],
        responses=DeploymentPageSerializer,
        operation_id="deployments_list",
    )
    def get(self, request: Request) -> Response:
        """Deployments, newest first. A page may be shorter than `limit` and still have a next one."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        query = query_validated(request.query_params, DeploymentListQuerySerializer)
        run_id = query.pop("run_id", None)
        if run_id is None:
            return _page(deployment_list(**query))
        if query.keys() & {"environment", "pipeline", "status", "cursor"}:
            raise InvalidInput.field("run_id", "must not be given with another filter")
        return _page(DeploymentPage(deployments_of_run(run_id), None))

    @extend_schema(
        parameters=[IDEMPOTENCY_HEADER],
        request=DeploymentCreateSerializer,
        responses={201: DeploymentStartedSerializer, **problems(409)},
        operation_id="deployments_create",
    )
    def post(self, request: Request) -> Response:
        """Start a run that deploys to an environment: of a ref, or of the commit of an earlier run."""
        job_create_require(request_actor(request))
        members = body_validated(request.data, DeploymentCreateSerializer)
        key = idempotency_key(request)
        return _started(request, deployment_create(actor=request_actor(request), idempotency_key=key, **members))


class DeploymentView(APIView):
    @extend_schema(responses=DeploymentDetailSerializer, operation_id="deployments_get")
    def get(self, request: Request, deployment_id: str) -> Response:
        """One deployment, with its gates while it waits, what its job waits for after that, and why it has failed."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        return _detail(deployment_get(deployment_id))


class DeploymentChangesView(APIView):
    @extend_schema(responses=DeploymentChangesSerializer, operation_id="deployments_changes")
    def get(self, request: Request, deployment_id: str) -> Response:
        """The commits of a deployment since what was live before, from the provider if there is one."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        return Response(DeploymentChangesSerializer(deployment_changes(deployment_get(deployment_id))).data)


class DeploymentApproveView(APIView):
    @extend_schema(
        request=DecisionSerializer,
        responses={200: DeploymentDetailSerializer, **problems(409)},
        operation_id="deployments_approve",
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Approve a deployment that waits. The environment says who may. Approving again changes nothing."""
        deployment_approve_require(request_actor(request))
        members = body_validated(request.data, DecisionSerializer)
        return _detail(deployment_approve(actor=request_actor(request), deployment_id=deployment_id, **members))


class DeploymentRejectView(APIView):
    @extend_schema(
        request=DecisionSerializer,
        responses={200: DeploymentDetailSerializer, **problems(409)},
        operation_id="deployments_reject",
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Reject a deployment that waits: its job fails. Rejecting again changes nothing."""
        deployment_approve_require(request_actor(request))
        members = body_validated(request.data, DecisionSerializer)
        return _detail(deployment_reject(actor=request_actor(request), deployment_id=deployment_id, **members))


class DeploymentRollbackView(APIView):
    @extend_schema(
        parameters=[IDEMPOTENCY_HEADER],
        request=None,
        responses={201: DeploymentStartedSerializer, **problems(409)},
        operation_id="deployments_rollback",
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Deploy the commit of the last good deployment before this one again, as a new deployment."""
        job_create_require(request_actor(request))
        key = idempotency_key(request)
        job = deployment_rollback(actor=request_actor(request), deployment_id=deployment_id, idempotency_key=key)
        return _started(request, job)


class DeploymentRedeployView(APIView):
    @extend_schema(
        parameters=[IDEMPOTENCY_HEADER],
        request=None,
        responses={201: DeploymentStartedSerializer, **problems(409)},
        operation_id="deployments_redeploy",
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Deploy the commit of a deployment that has ended again, as a new deployment."""
        job_create_require(request_actor(request))
        key = idempotency_key(request)
        job = deployment_redeploy(actor=request_actor(request), deployment_id=deployment_id, idempotency_key=key)
        return _started(request, job)


def _page(found: DeploymentPage) -> Response:
    context = {"job_statuses": deployment_job_statuses(found.deployments)}
    return Response(DeploymentPageSerializer(found, context=context).data)


def _detail(deployment: Deployment) -> Response:
    _, found = deployment_gates(deployment)
    job = deployment_job(deployment)
    is_open = job is not None and deployment.status == DeploymentStatus.IN_PROGRESS
    statuses = {deployment.deployment_id: job.status} if job is not None and is_open else {}
    context = {"gates": found, "job": job, "job_statuses": statuses}
    return Response(DeploymentDetailSerializer(deployment, context=context).data)


def _started(request: Request, job: Job) -> Response:
    return Response(
        DeploymentStartedSerializer(job).data,
        status=201,
        headers={"Location": request.build_absolute_uri(f"{get_script_prefix()}runs/{job.run_id}")},
    )
