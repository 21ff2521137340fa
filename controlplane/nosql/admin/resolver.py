"""Addresses whose module is imported when somebody asks for one of them."""

from typing import Any

from django.urls import URLResolver
from django.urls.resolvers import RoutePattern


class LazyResolver(URLResolver):
    """As ``path(route, include(module))`` with a namespace, without the import that the first ``reverse`` of any other
    address makes: it collects the names of all modules, and of one with a namespace it uses nothing."""

    def __init__(self, route: str, module: str, *, namespace: str) -> None:
        super().__init__(RoutePattern(route), module, app_name=namespace, namespace=namespace)

    def _populate(self, *_: Any) -> None:
        """Names behind the namespace are looked up in the module itself, once it is there."""
