"""Reads requests strictly: a malformed request is refused with the name of the invalid field."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, QueryDict
from rest_framework import serializers
from rest_framework.parsers import BaseParser

from controlplane.http.json_body import json_object, json_parse, members_known_require
from controlplane.lib.addresses import request_address
from controlplane.lib.errors import InvalidInput


class JsonParser(BaseParser):
    """Parses JSON for DRF with the rules and the size limit of plain views. DRF's own parser has no limit."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        """The parsed body. Raises InvalidInput with code ``malformed_json``, or Django's RequestDataTooBig."""
        return json_parse(parser_context["request"].body)


def behind_gateway(request: HttpRequest) -> bool:
    """Whether API Gateway has sent the request, which limits the size of the response."""
    return "apig_wsgi.full_event" in request.META or "lambda.event" in request.META


def client_address(request: HttpRequest) -> str:
    """The IP address of the client, as `request_address` finds it."""
    return request_address(request.META)


def client_region(request: HttpRequest) -> str | None:
    """The client's region from the header CLIENT_REGION_HEADER, which the network in front of us sets, or None."""
    region = request.headers.get(settings.CLIENT_REGION_HEADER, "") if settings.CLIENT_REGION_HEADER else ""
    return region[:40] if region.isprintable() and region else None


def body_validated(body: Any, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The members of a JSON object (DRF's ``request.data``), validated by the serializer.

    Raises InvalidInput for unknown or invalid members.
    """
    members_known_require(json_object(body), serializer_class().fields)
    serializer = serializer_class(data=body)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def query_validated(query: QueryDict, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The query parameters, validated by the serializer. Raises InvalidInput for unknown, repeated or invalid ones."""
    known = serializer_class().fields
    for name, values in query.lists():
        if name not in known:
            raise InvalidInput.field(name[:100], f"must not be given; the parameters are {', '.join(known)}")
        if len(values) > 1:
            raise InvalidInput.field(name, "must be given once")
    serializer = serializer_class(data=query.dict(), context={"from_query": True})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
