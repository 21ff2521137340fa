"""``/files/…``: the presigned URLs of artifacts and caches where they are kept in a directory and not in S3."""

from base64 import b64decode
from itertools import chain

from django.core.files.storage import storages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from controlplane.http.body_limits import body_limit
from controlplane.http.byte_ranges import byte_range
from controlplane.http.problems import problem_response
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, NotFound
from controlplane.lib.presigned import CHECKSUM_HEADER, PART_MOST, Part
from controlplane.lib.presigned_files import PresignedFiles

# The bytes are those of a job, so a browser must save them and not show them.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Accept-Ranges": "bytes",
}


@csrf_exempt
@body_limit(PART_MOST)
@require_http_methods(["GET", "PUT"])
def stored_file(request: HttpRequest, name: str) -> HttpResponseBase:
    """Take a part of a file, or give a file, for a URL that the control plane has signed. It needs nothing else."""
    storage = storages["artifacts"]
    if not isinstance(storage, PresignedFiles):
        raise NotFound("Artifacts are in S3.")
    return _take(request, storage, name) if request.method == "PUT" else _give(request, storage, name)


def _take(request: HttpRequest, storage: PresignedFiles, name: str) -> HttpResponse:
    size, digest = request.META.get("CONTENT_LENGTH") or "", request.headers.get(CHECKSUM_HEADER, "")
    # The body is not read before this.
    storage.request_check("PUT", name, request.GET.dict(), size=size, digest=digest)
    part = Part(int(size), b64decode(digest).hex())
    storage.part_write(name, int(request.GET["part"]), part, request)  # type: ignore[arg-type]
    return HttpResponse(headers={"ETag": f'"{part.sha256}"'})


def _give(request: HttpRequest, storage: PresignedFiles, name: str) -> HttpResponseBase:
    query = request.GET.dict()
    storage.request_check("GET", name, query)
    stored = storage.stored(name)
    if stored is None:
        raise NotFound("The file has been deleted or has expired.")
    etag = f'"{stored.checksum}"'
    headers = {**_HEADERS, "ETag": etag}
    if "filename" in query:
        headers["Content-Disposition"] = f'attachment; filename="{query["filename"]}"'
    chosen = byte_range(request, size=stored.size, etag=etag)
    if chosen is not None and chosen.first == chosen.end:
        refused = problem_response(
            ApplicationError(
                f"The Range begins after the end of the file, which has {stored.size} bytes.",
                status=416,
                code=ErrorCode.RANGE_NOT_SATISFIABLE,
            )
        )
        refused["Content-Range"] = f"bytes */{stored.size}"
        return refused
    first, end = chosen or (0, stored.size)
    if chosen is not None:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{stored.size}"
    headers["Content-Length"] = str(end - first)
    blocks = storage.blocks(name, first, end)
    # A failure of the first read is still a problem response.
    return StreamingHttpResponse(
        chain([next(blocks, b"")], blocks),
        content_type="application/octet-stream",
        status=206 if chosen is not None else 200,
        headers=headers,
    )
