"""Serves the API document at ``/schema``. It is made once in a process, because it does not change."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer

from controlplane.http.openapi import Json

_RENDERERS = {"json": OpenApiJsonRenderer2, "yaml": OpenApiYamlRenderer}


@cache
def api_document() -> Json:
    """The OpenAPI document of this release. Do not change it."""
    document: Json = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return document


@dataclass(frozen=True)
class _Written:
    """The document in one format and encoding, with its entity tag."""

    content: bytes
    tag: str
    headers: dict[str, str]


@cache
def _written(form: str, *, packed: bool) -> _Written:
    renderer = _RENDERERS[form]
    content: bytes = renderer().render(api_document(), renderer_context={})  # type: ignore[assignment]
    headers = {
        "Content-Type": renderer.media_type,
        "Content-Disposition": f'inline; filename="hybrid-ci-cd.{form}"',
        "Cache-Control": "no-cache",
        "Vary": "Accept, Accept-Encoding",
    }
    if packed:
        content = gzip.compress(content, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return _Written(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', headers)


def _wanted(request: HttpRequest) -> _Written:
    """In what form the client wants the document: YAML, unless it asks for JSON."""
    form = request.GET.get("format") or ("json" if "json" in request.headers.get("Accept", "") else "yaml")
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    return _written(form if form in _RENDERERS else "yaml", packed=packed)


@require_safe
@condition(etag_func=lambda request: _wanted(request).tag)
def schema(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document. It is public."""
    written = _wanted(request)
    return HttpResponse(written.content, headers=written.headers)
