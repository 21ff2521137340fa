"""Reading requests strictly: what cannot be understood is told to the client, with the field's name."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, QueryDict
from rest_framework import serializers
from rest_framework.parsers import BaseParser

from controlplane.http.json_body import json_object, json_parse, members_known_require
from controlplane.lib.errors import InvalidInput


class JsonParser(BaseParser):
    """JSON for DRF, under the same rules and the same limit of size as for plain views (DRF's own has none)."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        """The body's value. Raises InvalidInput with code ``malformed_json``; Django's RequestDataTooBig."""
        return json_parse(parser_context["request"].body)


def client_address(request: HttpRequest) -> str:
    """The IP address that the request came from, as the gateway saw it; without a gateway, as the server did.

    On Lambda it stands in the gateway's event, which the adapters put into the WSGI environment. Headers such as
    X-Forwarded-For are never looked at: a client can write them, and no header can write the event.
    """
    event = request.META.get("apig_wsgi.full_event") or request.META.get("lambda.event")
    if event is None:
        return str(request.META.get("REMOTE_ADDR", ""))
    context = event.get("requestContext") or {}
    # HTTP APIs, and then REST APIs.
    seen = (context.get("http") or {}).get("sourceIp") or (context.get("identity") or {}).get("sourceIp")
    return str(seen or "")


def client_region(request: HttpRequest) -> str | None:
    """Where the address is, as far as the network in front of us tells by the header CLIENT_REGION_HEADER, or None."""
    told = request.headers.get(settings.CLIENT_REGION_HEADER, "") if settings.CLIENT_REGION_HEADER else ""
    return told[:40] if told.isprintable() and told else None


def body_validated(body: Any, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The members of a JSON object (DRF's ``request.data``) as the serializer gives them.

    Raises InvalidInput for unknown and wrong ones.
    """
    members_known_require(json_object(body), serializer_class().fields)
    serializer = serializer_class(data=body)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def query_validated(query: QueryDict, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The query parameters as the serializer gives them. Raises InvalidInput for unknown, repeated and wrong ones."""
    known = serializer_class().fields
    for name, values in query.lists():
        if name not in known:
            raise InvalidInput.field(name[:100], f"must not be given: the parameters are {', '.join(known)}")
        if len(values) > 1:
            raise InvalidInput.field(name, "must be given once")
    serializer = serializer_class(data=query.dict(), context={"from_query": True})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
