"""What belongs to no app: the root, how the control plane is, what it is, and Django's error handlers."""

import sys

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.documentation import documentation
from controlplane.lib.errors import ApplicationError, Forbidden
from controlplane.openapi import documented
from controlplane.problems import application_error, error_response

NAME = "hybrid-ci-cd"


class HealthSerializer(serializers.Serializer[None]):
    """That this process answers; it does not ask the database."""

    status = serializers.ChoiceField(choices=["healthy"])
    version = serializers.CharField()


class InfoSerializer(serializers.Serializer[None]):
    """Which control plane this is."""

    name = serializers.CharField()
    version = serializers.CharField()
    environment = serializers.CharField(help_text="local, staging or production.")


@require_safe
def root(_: HttpRequest) -> HttpResponse:
    """To the pages."""
    return redirect("dashboard:overview")


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """The API for people to read; open to everyone, as the document at /schema is."""
    base_url = request.build_absolute_uri(request.META.get("SCRIPT_NAME", "") or "/").rstrip("/")
    context = {"api": documentation(), "version": settings.VERSION, "base_url": base_url, "section": "docs"}
    return render(request, "docs.html", context)


@documented("get", responses=HealthSerializer, operation_id="health", tags=["control plane"])
@csrf_exempt
@require_safe
def health(_: HttpRequest) -> HttpResponse:
    """Whether the control plane answers. Reads and writes nothing."""
    return JsonResponse({"status": "healthy", "version": settings.VERSION}, headers={"Cache-Control": "no-store"})


class InfoView(APIView):
    """Name, version and stage; open to everyone, as clients ask this before they sign in."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(responses=InfoSerializer, operation_id="info", tags=["control plane"])
    def get(self, _: Request) -> Response:
        """Which control plane this is."""
        return Response({"name": NAME, "version": settings.VERSION, "environment": settings.STAGE})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400."""
    return _handled(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    return _handled(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    return _handled(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500, called while the exception is handled: one of our own may come from a middleware."""
    return _handled(request, sys.exc_info()[1])


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001 — Django passes it by name
    """Django's CSRF_FAILURE_VIEW."""
    message = "This form is too old, or came from another site. Please load the page again."
    return error_response(request, Forbidden(message, code="csrf_failed"))


def _handled(request: HttpRequest, exception: BaseException | None) -> HttpResponse:
    error = application_error(exception) or ApplicationError(
        "Something broke on our side. It has been written down.", code="internal_error", status=500
    )
    return error_response(request, error)
