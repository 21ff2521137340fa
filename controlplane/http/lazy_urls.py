"""Paths whose module is imported by the first request that may be for one of them."""

from typing import Any

from django.urls import URLResolver
from django.urls.resolvers import RoutePattern


class LazyUrls(URLResolver):
    """As ``path("", include(module))``, for a module all of whose paths begin with one of `prefixes`.

    Names are found as ever: the first ``reverse`` imports all modules.
    """

    def __init__(self, module: str, *prefixes: str) -> None:
        super().__init__(_Prefixes(prefixes), module)
        self.prefixes = prefixes


class _Prefixes(RoutePattern):
    """Matches nothing of the path, but looks at what it begins with."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        super().__init__("")
        self._prefixes = prefixes

    def match(self, path: str) -> tuple[str, tuple[Any, ...], dict[str, Any]] | None:
        return (path, (), {}) if path.startswith(self._prefixes) else None
