"""What the control plane tells of itself: which one it is, and the document of its API."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.http.documentation import documentation
from controlplane.http.openapi import Json, problems

NAME = "hybrid-ci-cd"


class HealthSerializer(serializers.Serializer[None]):
    """That this process answers; it does not ask the database."""

    status = serializers.ChoiceField(choices=["healthy"])
    version = serializers.CharField()


class ReadySerializer(serializers.Serializer[None]):
    """That this process answers and reaches the database."""

    status = serializers.ChoiceField(choices=["ready"])
    version = serializers.CharField()


class InfoSerializer(serializers.Serializer[None]):
    """Which control plane this is."""

    name = serializers.CharField()
    version = serializers.CharField()
    environment = serializers.CharField(help_text="local, staging or production.")


# Of the plain views.
HEALTH: Json = {"operation_id": "health", "responses": HealthSerializer, "tags": ["control plane"]}
READY: Json = {
    "operation_id": "ready",
    "responses": {200: ReadySerializer, **problems(503)},
    "tags": ["control plane"],
}


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """The API for people to read; open to everyone, as the document at /schema is."""
    base_url = request.build_absolute_uri(request.META.get("SCRIPT_NAME", "") or "/").rstrip("/")
    context = {"api": documentation(), "version": settings.VERSION, "base_url": base_url, "section": "docs"}
    return render(request, "docs.html", context)


class InfoView(APIView):
    """Name, version and stage; open to everyone, as clients ask this before they sign in."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(responses=InfoSerializer, operation_id="info", tags=["control plane"])
    def get(self, _: Request) -> Response:
        """Which control plane this is."""
        return Response({"name": NAME, "version": settings.VERSION, "environment": settings.STAGE})
