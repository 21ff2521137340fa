"""URL modules are imported at the first request for one of their paths."""

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from controlplane.http.lazy_urls import LazyUrls
from tests.clients import Client

LAZY = [part for part in get_resolver("controlplane.urls").url_patterns if isinstance(part, LazyUrls)]


def routes(part: URLResolver) -> list[str]:
    found = []
    for inner in part.url_patterns:
        assert isinstance(inner, URLPattern), "a prefix is checked only once"
        found.append(str(inner.pattern).removeprefix("^"))
    return found


@pytest.mark.parametrize("part", LAZY, ids=lambda part: part.urlconf_name)
def test_every_path_of_a_module_begins_with_a_declared_prefix(part: LazyUrls) -> None:
    assert routes(part)
    for route in routes(part):
        assert route.startswith(part.prefixes), route


@pytest.mark.parametrize("path", ["/", "/tokensx", "/agents/", "/jobsx", "/nothing"])
def test_a_path_that_only_begins_like_an_existing_one_is_not_found(server: str, path: str) -> None:
    assert Client(server).get(path).status_code == (302 if path == "/" else 404)
