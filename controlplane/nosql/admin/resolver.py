"""A URL resolver that imports its module with the first request for one of its addresses."""

from typing import Any

from django.urls import URLResolver
from django.urls.resolvers import RoutePattern


class LazyResolver(URLResolver):
    """``path(route, include(module))`` with a namespace, but ``reverse`` of other addresses does not import the module.

    Django's first ``reverse`` collects the names of all modules, although it uses no name of a module with a namespace.
    """

    def __init__(self, route: str, module: str, *, namespace: str) -> None:
        super().__init__(RoutePattern(route), module, app_name=namespace, namespace=namespace)

    def _populate(self, *_: Any) -> None:
        """Do nothing: names in the namespace are looked up in the module once it is imported."""
