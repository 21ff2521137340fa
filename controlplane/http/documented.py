"""Describes plain views for the API document (see `controlplane.http.openapi`) without importing drf-spectacular."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from controlplane.http.body_limits import view_body_limit

View = Callable[..., HttpResponse]


def documented(method: str, description: str) -> Callable[[View], "DocumentedView"]:
    """Describe `method` ("get", "post" …) of a plain view. The path `description` names a dict of the arguments of
    ``extend_schema``, and ``security``.

    This must be the outermost decorator, above ``@csrf_exempt`` and the like.
    """
    return lambda view: DocumentedView(view, method, description)


class DocumentedView:
    """A view that drf-spectacular can describe: it looks for a DRF view behind each route."""

    initkwargs: ClassVar[dict[str, Any]] = {}

    def __init__(self, view: View, method: str, description: str) -> None:
        update_wrapper(self, view)
        self._view = view
        self._method = method
        self._description = description

    def __call__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._view(request, *args, **kwargs)

    @cached_property
    def cls(self) -> type:
        """The DRF view that has the description. It never receives a request."""
        from drf_spectacular.utils import extend_schema
        from rest_framework.views import APIView

        description = dict(import_string(self._description))

        def handler(view: APIView) -> None:
            """This function is only described, never called."""

        handler.__doc__ = self._view.__doc__
        members = {
            "security": description.pop("security", ()),
            self._method: extend_schema(**description)(handler),
            "authentication_classes": (),
            "permission_classes": (),
            "body_limit": view_body_limit(self._view),
        }
        return type(self._view.__name__, (APIView,), members)
