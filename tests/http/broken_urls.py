"""A URL configuration with bugs, to test what their responses reveal."""

from typing import NoReturn

from django.http import HttpRequest
from django.urls import include, path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from controlplane.lib.errors import Unavailable

SECRET = "the password is 1234"


def plain_bug(_: HttpRequest) -> NoReturn:
    raise RuntimeError(SECRET)


def plain_unavailable(_: HttpRequest) -> NoReturn:
    raise Unavailable


class ApiBug(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get(self, _: Request) -> NoReturn:
        raise RuntimeError(SECRET)


urlpatterns = [
    path("plain-bug", plain_bug),
    path("plain-unavailable", plain_unavailable),
    path("api-bug", ApiBug.as_view()),
    path("", include("controlplane.urls")),
]

handler400 = "controlplane.http.views.bad_request"
handler403 = "controlplane.http.views.forbidden"
handler404 = "controlplane.http.views.not_found"
handler500 = "controlplane.http.views.server_error"
