"""Reading requests strictly: what cannot be understood is told to the client, with the field's name."""

import json
from typing import Any

from django.http import HttpRequest, QueryDict
from rest_framework import serializers

from controlplane.lib.errors import InvalidInput


def json_body(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object, for plain Django views. Raises InvalidInput with code ``malformed_json``."""
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise InvalidInput("The body is not JSON in UTF-8.", code="malformed_json") from None
    if not isinstance(body, dict):
        raise InvalidInput("The body is not a JSON object.", code="malformed_json")
    return body


def query_validated(query: QueryDict, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The query parameters as the serializer gives them. Raises InvalidInput for unknown, repeated and wrong ones."""
    known = serializer_class().fields
    for name, values in query.lists():
        if name not in known:
            raise InvalidInput.field(name, f"is not a parameter here; there are {', '.join(known)}")
        if len(values) > 1:
            raise InvalidInput.field(name, "is given more than once")
    serializer = serializer_class(data=query.dict())
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
