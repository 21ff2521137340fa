"""Public pages about pipeline files: the guide, and the JSON Schema for editors."""

import hashlib
import json
from functools import cache

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import TemplateDoesNotExist
from django.views.decorators.http import condition, require_safe

from apps.pipelines.definitions import pipeline_schema


@cache
def _schema() -> tuple[bytes, str]:
    """The JSON Schema of pipeline files, and its entity tag."""
    content = json.dumps(pipeline_schema(), indent=1, ensure_ascii=False).encode()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@require_safe
@condition(etag_func=lambda _: _schema()[1])
def schema(_: HttpRequest) -> HttpResponse:
    """The schema, as editors fetch it: it is public and may be kept for an hour."""
    headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
    return HttpResponse(_schema()[0], content_type="application/schema+json", headers=headers)


@require_safe
def guide(request: HttpRequest, name: str = "pipelines") -> HttpResponse:
    """A page of the guide, which `make guide` rendered from docs/guide."""
    if name == "page":
        # The frame of the pages.
        raise Http404
    try:
        return render(request, f"guide/{name}.html", {"section": "guide"})
    except TemplateDoesNotExist:
        raise Http404 from None
