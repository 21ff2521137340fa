"""URL patterns whose module is imported at the first request that may match one of them."""

from typing import Any

from django.urls import URLResolver
from django.urls.resolvers import RoutePattern


class LazyUrls(URLResolver):
    """Like ``path("", include(module))``, for a module whose paths all begin with one of `prefixes`.

    Names resolve as usual: the first ``reverse`` imports all modules.
    """

    def __init__(self, module: str, *prefixes: str) -> None:
        super().__init__(_Prefixes(prefixes), module)
        self.prefixes = prefixes


class _Prefixes(RoutePattern):
    """Consumes nothing of the path, but checks its prefix."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        super().__init__("")
        self._prefixes = prefixes

    def match(self, path: str) -> tuple[str, tuple[Any, ...], dict[str, Any]] | None:
        return (path, (), {}) if path.startswith(self._prefixes) else None
