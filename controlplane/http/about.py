"""The endpoints about the control plane itself: name and version, and the documentation of its API."""

from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.http.documentation import documentation
from controlplane.http.openapi import Json, problems

NAME = "Hybrid CI/CD Backend"


class HealthSerializer(serializers.Serializer[None]):
    """This process answers. The endpoint does not read the database."""

    status = serializers.ChoiceField(choices=["healthy"])
    version = serializers.CharField()


class ReadySerializer(serializers.Serializer[None]):
    """This process answers and reaches the database."""

    status = serializers.ChoiceField(choices=["ready"])
    version = serializers.CharField()


class InfoSerializer(serializers.Serializer[None]):
    """Name, version and stage of the control plane."""

    name = serializers.CharField()
    version = serializers.CharField()
    environment = serializers.CharField(help_text="local, staging or production.")


# Descriptions of the plain views.
HEALTH: Json = {"operation_id": "health", "responses": HealthSerializer, "tags": ["control plane"]}
READY: Json = {
    "operation_id": "ready",
    "responses": {200: ReadySerializer, **problems(503)},
    "tags": ["control plane"],
}


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """The API documentation for people. It is public, as the document at /schema is."""
    base_url = request.build_absolute_uri(request.META.get("SCRIPT_NAME", "") or "/").rstrip("/")
    context = {
        "api": documentation(),
        "operations": _operations(),
        "version": settings.VERSION,
        "base_url": base_url,
        "section": "docs",
    }
    return render(request, "docs.html", context)


@cache
def _operations() -> SafeString:
    """Most of the page, which is the same for everyone."""
    return render_to_string("docs_operations.html", {"api": documentation()})


class InfoView(APIView):
    """Name, version and stage. Public, because clients request it before they sign in."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(responses=InfoSerializer, operation_id="info", tags=["control plane"])
    def get(self, _: Request) -> Response:
        """Name, version and stage of the control plane."""
        return Response({"name": NAME, "version": settings.VERSION, "environment": settings.STAGE})
