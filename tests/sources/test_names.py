"""The full names of repositories give lists their order."""

from apps.sources.providers.interface import Repository
from apps.sources.providers.names import by_name


def test_repositories_are_in_the_order_of_their_names_whatever_capitals_they_have() -> None:
    names = ["beta/tool", "Acme/shop", "acme/Blog"]
    found = by_name(Repository(full_name=name, clone_url=f"https://forge.example/{name}.git") for name in names)
    assert [one.full_name for one in found] == ["acme/Blog", "Acme/shop", "beta/tool"]
