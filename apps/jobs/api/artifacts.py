"""The endpoints of artifacts and caches for people's programs."""

from itertools import chain

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors.artifacts import (
    artifact_files,
    artifact_get,
    artifact_link,
    job_artifacts,
    run_artifacts,
    run_artifacts_all,
    zip_entries,
    zip_fits,
    zip_fits_response,
    zip_too_large,
)
from apps.jobs.selectors.caches import cache_owner, caches_live
from apps.jobs.serializers.artifacts import (
    ArtifactFilesSerializer,
    ArtifactListQuerySerializer,
    ArtifactPageSerializer,
    ArtifactsSerializer,
    CachesDeletedSerializer,
    CachesSerializer,
    ProvenanceSerializer,
)
from apps.jobs.services.artifacts import artifact_delete, artifacts_reveal
from apps.jobs.services.caches import caches_delete
from apps.pipelines.selectors import pipeline_get
from controlplane.http.openapi import problems
from controlplane.http.requests import behind_gateway, query_validated
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.zip_stream import zip_blocks

_LOCATION, _ZIP_LOCATION = (
    OpenApiParameter(
        "Location",
        OpenApiTypes.URI,
        OpenApiParameter.HEADER,
        response=[status],
        description="A secret: for five minutes it needs no credentials.",
    )
    for status in (302, 303)
)


class RunArtifactsView(APIView):
    @extend_schema(
        parameters=[ArtifactListQuerySerializer], responses=ArtifactPageSerializer, operation_id="runs_artifacts"
    )
    def get(self, request: Request, run_id: str) -> Response:
        """The artifacts of all jobs of a run. Of a run that does not exist, there are none."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        page = run_artifacts(run_id, **query_validated(request.query_params, ArtifactListQuerySerializer))
        return Response(ArtifactPageSerializer(page, context={"request": request}).data)


class JobArtifactsView(APIView):
    @extend_schema(responses=ArtifactsSerializer, operation_id="jobs_artifacts")
    def get(self, request: Request, job_id: str) -> Response:
        """The artifacts of all attempts of a job."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        found = {"artifacts": job_artifacts(job_id)}
        return Response(ArtifactsSerializer(found, context={"request": request}).data)


class ArtifactView(APIView):
    @extend_schema(responses={204: None}, operation_id="artifacts_delete")
    def delete(self, request: Request, artifact_id: str) -> Response:
        """Delete an artifact and its bytes."""
        artifact_delete(actor=request_actor(request), artifact_id=artifact_id)
        return Response(status=204)


class ArtifactDownloadView(APIView):
    @extend_schema(
        parameters=[_LOCATION],
        responses={302: OpenApiResponse(description="The artifact is at Location.")},
        operation_id="artifacts_download",
    )
    def get(self, request: Request, artifact_id: str) -> HttpResponseBase:
        """Download an artifact: a redirect to a URL that takes Range."""
        actor = request_actor(request)
        permission_require(actor, Permission.JOBS_READ)
        artifact = artifact_get(artifact_id)
        link = artifact_link(artifact, base=request.build_absolute_uri(get_script_prefix()))
        artifacts_reveal(actor=actor, artifacts=[artifact], target=f"artifact:{artifact_id}")
        return HttpResponseRedirect(link.url, headers={"Cache-Control": "no-store"})


class ArtifactFilesView(APIView):
    @extend_schema(responses=ArtifactFilesSerializer, operation_id="artifacts_files")
    def get(self, request: Request, artifact_id: str) -> Response:
        """The files of an artifact."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        artifact = artifact_get(artifact_id)
        files = [{**file, "mode": f"{file['mode']:04o}"} for file in artifact_files(artifact)]
        return Response(ArtifactFilesSerializer({"files": files, "total": int(artifact.files)}).data)


class ArtifactProvenanceView(APIView):
    @extend_schema(
        responses={200: ProvenanceSerializer, **problems(409)}, operation_id="artifacts_provenance", tags=["artifacts"]
    )
    def get(self, request: Request, artifact_id: str) -> Response:
        """Where an artifact comes from: a signed in-toto statement with SLSA's provenance, in a DSSE envelope."""
        permission_require(request_actor(request), Permission.JOBS_READ)
        # It needs the keys that sign, and few requests do.
        from apps.jobs.selectors.provenance import artifact_provenance

        found = artifact_provenance(artifact_id, base=request.build_absolute_uri(get_script_prefix()))
        headers = {"Content-Disposition": f'attachment; filename="{artifact_id}.intoto.jsonl"'}
        return Response(found, headers=headers)


class RunArtifactsZipView(APIView):
    @extend_schema(
        parameters=[_ZIP_LOCATION],
        responses={
            (200, "application/zip"): OpenApiTypes.BINARY,
            303: OpenApiResponse(description="The zip is at Location."),
            **problems(409),
        },
        operation_id="runs_artifacts_zip",
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """All artifacts of a run as a zip file of their archives.

        On AWS, from 4 MB on, the answer is a redirect to the zip, and it may take some seconds until that is made.
        Above 250 MB, or 200 artifacts, there is no zip on AWS: download each.
        """
        actor = request_actor(request)
        permission_require(actor, Permission.JOBS_READ)
        artifacts = run_artifacts_all(run_id)
        if not artifacts:
            raise NotFound("The run has no artifacts.", code=ErrorCode.ARTIFACT_NOT_FOUND)
        if behind_gateway(request) and not zip_fits(artifacts):
            raise zip_too_large(run_id)
        if behind_gateway(request) and not zip_fits_response(artifacts):
            # Few requests need it.
            from apps.jobs.services.artifact_zips import artifacts_zip

            base = request.build_absolute_uri(get_script_prefix())
            link = artifacts_zip(actor=actor, run_id=run_id, artifacts=artifacts, base=base)
            return HttpResponseRedirect(link.url, status=303, headers={"Cache-Control": "no-store"})
        artifacts_reveal(actor=actor, artifacts=artifacts, target=f"run:{run_id}")
        headers = {
            "Content-Disposition": f'attachment; filename="artifacts-{run_id}.zip"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        blocks = zip_blocks(zip_entries(artifacts))
        if not behind_gateway(request):
            # A failure of the first read is still a problem response.
            first = next(blocks, b"")
            return StreamingHttpResponse(chain([first], blocks), content_type="application/zip", headers=headers)
        return HttpResponse(b"".join(blocks), content_type="application/zip", headers=headers)


class PipelineCachesView(APIView):
    @extend_schema(responses=CachesSerializer, operation_id="pipelines_caches")
    def get(self, request: Request, name: str) -> Response:
        """The caches of a pipeline."""
        permission_require(request_actor(request), Permission.PIPELINES_READ)
        caches = caches_live(cache_owner(pipeline_get(name).name))
        found = {
            "caches": caches,
            "total_size": sum(int(cache.size) for cache in caches),
            "quota": settings.CACHE_QUOTA_MB * 1_000_000,
        }
        return Response(CachesSerializer(found).data)

    @extend_schema(responses={200: CachesDeletedSerializer}, operation_id="pipelines_caches_delete")
    def delete(self, request: Request, name: str) -> Response:
        """Delete all caches of a pipeline, for example one whose content is damaged."""
        return Response(
            CachesDeletedSerializer({"deleted": caches_delete(actor=request_actor(request), pipeline=name)}).data
        )
