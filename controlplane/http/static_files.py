"""Serves the static files of pages."""

from collections.abc import Callable
from functools import cached_property

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class StaticFilesMiddleware:
    """WhiteNoise, made at the first request for a static file.

    It looks at every file when it is made, which a cold start for another request need not wait for.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(settings.STATIC_URL):
            return self.get_response(request)
        return self._files(request)

    @cached_property
    def _files(self) -> Callable[[HttpRequest], HttpResponse]:
        from whitenoise.middleware import WhiteNoiseMiddleware

        files: Callable[[HttpRequest], HttpResponse] = WhiteNoiseMiddleware(self.get_response)
        return files
