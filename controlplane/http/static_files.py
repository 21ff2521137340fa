"""Serves the static files of pages, and says at which addresses they are."""

from collections.abc import Callable
from functools import cached_property

from django.conf import settings
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse
from django.urls import get_script_prefix


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


class StageStaticFilesStorage(StaticFilesStorage):
    """Static files, each at its address below the stage of the request.

    A gateway's own address begins with the stage, and a custom domain does not. Django would keep the address that
    `STATIC_URL` has in the first request.
    """

    def url(self, name: str | None) -> str:
        """The path of the file for browsers."""
        return f"{get_script_prefix().rstrip('/')}{super().url(name)}"
